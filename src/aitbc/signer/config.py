"""What a signer is told at start."""

from pathlib import Path

import msgspec

from aitbc.ports import Signer


class SignerConfig(msgspec.Struct, frozen=True, kw_only=True):
    genesis: bytes
    """The genesis document: the only chain that is signed for."""
    data: Path
    """Folder of the guard and of the journal of what was signed."""
    socket: Path
    """Where nodes connect; its folder is made for the owner only if it is not there."""
    signer: Signer
    key_file: Path | None = None
    """Where its key stands: one process votes with that at a time."""
    never_voted: bool = False
    """The operator's word that this key has not voted on this chain, anywhere."""
    guard_lost: bool = False
    """The operator's word that the guard is gone for good: vote in later epochs only."""
    allowed_users: tuple[int, ...] = ()
    """User ids that may connect beside the owner and root."""
