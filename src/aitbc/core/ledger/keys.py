"""Which key speaks for an account: now, or when a lock was made. docs/spec/keys.md"""

from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import address_of
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.reasons import Reason, Rejected


def key_at(state: Overlay, address: str, height: int) -> bytes:
    """The auth key that an account had at a height; empty when the chain did not know one.

    Receipts and attestations count under the keys of their lock's height, so that a rotation leaves finished work
    payable.
    """
    history = state.key_history(address)
    for old in history.keys if history else []:
        if height <= old.until_height:
            return key_from_text(old.key)
    return state.account(address).auth


def check_offered(text: str, address: str) -> None:
    """Refuse an offered key that does not make the address: nobody signed for what a witness carries beside."""
    if text and address_of(key_from_text(text)) != address:
        raise Rejected(Reason.WRONG_KEY, f"pubkey of the witness makes another address than {address}")


def key_or_offered(state: Overlay, address: str, height: int | None, offered: str) -> bytes:
    """The account's key at a height (None: now), or while the chain knows none, the offered one, which `check_offered`
    has seen."""
    known = state.account(address).auth if height is None else key_at(state, address, height)
    return known or (key_from_text(offered) if offered else b"")
