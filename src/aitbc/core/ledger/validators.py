"""The validator set of the running epoch, as the state has it. docs/spec/epochs.md"""

from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.schemes import ED25519, scheme_of
from aitbc.core.ledger.state import Base
from aitbc.core.types.blocks import Validator
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import ValidatorRecord


def check_voting_key(key: bytes) -> None:
    """Fail for a key that cannot vote: certificates and approvals are sized, and timed, for Ed25519."""
    if key[0] != ED25519:
        raise Failed(Reason.BAD_KEY, f"validators sign with Ed25519, not {scheme_of(key).name}")


def member_key(state: Base, address: str) -> bytes:
    """The key that the record of a member names; empty for others."""
    record = state.get("validators", address)
    return key_from_text(record.auth_key) if isinstance(record, ValidatorRecord) else b""


def members_of(state: Base) -> list[tuple[str, ValidatorRecord]]:
    """Everybody who is or may come back into the set, in set order; power 0 is out of it."""
    members = [
        (address, record)
        for address, record in state.items("validators", "ait1")
        if isinstance(record, ValidatorRecord)
    ]
    return sorted(members, key=lambda member: (member[1].position, member[0]))


def validators_of(state: Base) -> list[Validator]:
    """Who votes, in set order."""
    return [
        Validator(address, key_from_text(record.auth_key), record.power)
        for address, record in members_of(state)
        if record.power
    ]
