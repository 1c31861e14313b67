"""What a signature scheme is to the rest: one record. docs/spec/keys.md"""

from collections.abc import Callable
from typing import NamedTuple


class Scheme(NamedTuple):
    name: str
    tag: bytes
    """In front of the public key when an address is derived; empty for Ed25519 (the seed's formula)."""
    check_key: Callable[[bytes], None]
    """Refuses bytes that are no public key of this scheme, by reason, from cheap to dear."""
    verify: Callable[[bytes, bytes, bytes], bool]
    """(public key that `check_key` let pass, 32-byte digest, signature) → is it good. Any bytes may come as signature:
    what is not good is False, never an exception."""
    cost_rank: int
    """How dear a verification is beside those of other schemes; a rule, because fees follow `verifications`."""
    verifications: Callable[[bytes], tuple[str, ...]] | None = None
    """(public key) → the schemes whose verifications one signature takes, at most. None: one, its own."""
