"""KEY_ROTATE: an account gets another key and keeps its address. docs/spec/keys.md

From the next transaction on the new key signs. What the account signs as a validator follows at the next boundary;
receipts and attestations count under the key of their lock's height.
"""

from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import rotation_digest
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.escrow import longest_lock_ms
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.ledger.validators import check_voting_key
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Account, KeyHistory, OldKey
from aitbc.core.types.transactions import MAX_PUBKEY_BYTES, MAX_SIGNATURE_BYTES, VerifiedTransaction

MAX_OLD_KEYS = 8
"""Keys that are still needed. One rotation more is refused, because forgetting a key would make its receipts worthless
and its double signatures free."""


class KeyRotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pubkey: Annotated[str, msgspec.Meta(max_length=2 * MAX_PUBKEY_BYTES + 16)]
    """The new key, as text."""
    sig: Annotated[str, msgspec.Meta(max_length=2 * MAX_SIGNATURE_BYTES)]
    """The new key's signature over `rotation_digest`: nobody rotates to a key that nobody holds."""


def check(payload: KeyRotate, _witness: None, _genesis_hash: bytes) -> None:
    key_from_text(payload.pubkey)
    unhex(payload.sig)


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, KeyRotate)
    key = key_from_text(payload.pubkey)
    account = state.account(sender)
    if key == account.auth:
        raise Failed(Reason.BAD_KEY_PROOF, "this is the account's key already")
    digest = rotation_digest(sender, key, context.genesis_hash)
    if not context.verify(key, digest, unhex(payload.sig)):
        raise Failed(Reason.BAD_KEY_PROOF, f"sig is not the new key's over the rotation of {sender}")
    if state.get("validators", sender) is not None or state.bond("validator", sender).amount:
        check_voting_key(key)
    history = state.key_history(sender)
    keys = [old for old in (history.keys if history else []) if _is_needed(context, state, old)]
    if len(keys) >= MAX_OLD_KEYS:
        raise Failed(
            Reason.TOO_MANY_ROTATIONS,
            f"{MAX_OLD_KEYS} keys are still needed; the oldest until block time"
            f" {keys[0].until_ms + longest_lock_ms(context, state)} and the end of epoch"
            f" {context.epoch_of(keys[0].until_height) + context.params.evidence_epochs}",
        )
    old = OldKey(key=key_to_text(account.auth), until_height=context.height, until_ms=context.timestamp_ms)
    state.put("registry", f"keys:{sender}", KeyHistory(keys=[*keys, old]))
    state.put("accounts", sender, Account(account.balance, account.nonce, key))
    return [("rotated", sender, 0)]


def _is_needed(context: BlockContext, state: Overlay, old: OldKey) -> bool:
    """As long as a lock that it answers for can be claimed, or a vote that it signed can be punished."""
    locks = old.until_ms >= context.timestamp_ms - longest_lock_ms(context, state)
    votes = context.epoch_of(old.until_height) >= context.epoch - context.params.evidence_epochs
    return locks or votes


def asks(_context: BlockContext, _state: Overlay, tx: VerifiedTransaction) -> list[bytes]:
    assert isinstance(tx.payload, KeyRotate)
    return [key_from_text(tx.payload.pubkey)]


KEY_ROTATE = TransactionType("KEY_ROTATE", KeyRotate, check, apply, asks=asks, since=2)
