"""What happens at the end of an epoch, after the transactions of its last block. docs/spec/epochs.md

Parameters, validators, their keys and their power, scores and the mint's scale change here and nowhere else.
"""

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.schemes import ED25519
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.elector import carry_turns, mode_of, turns_at_end
from aitbc.core.ledger.escrow import LONGEST_LOCK, longest_lock_ms
from aitbc.core.ledger.minting import refill_budget
from aitbc.core.ledger.params import Params, params_from_texts
from aitbc.core.ledger.scores import decay_scores
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.param_update import Member, queue_of
from aitbc.core.ledger.validators import member_key, members_of
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.records import Bond, Param, ValidatorRecord


def close_epoch(context: BlockContext, state: Overlay) -> None:
    """Apply what waited for the boundary, in this order: parameters, budget, scores, validators, turns, randomness."""
    turns = turns_at_end(state, context.epoch_length)
    params, members = _apply_updates(context, state)
    context = msgspec.structs.replace(context, params=params)
    refill_budget(context, state)
    decay_scores(context, state)
    _renew_validators(context, state, members)
    carry_turns(state, turns)
    state.put("params", "epoch.seed", Param(value=context.parent.hex()))
    if state.number("epoch.leaving"):
        state.set_number("epoch.leaving", 0)


def _apply_updates(context: BlockContext, state: Overlay) -> tuple[Params, list[Member]]:
    """The parameters of the next epoch, and the new list of authorities, empty when it stays."""
    params, members = context.params, list[Member]()
    for key, update in queue_of(state):
        for name, value in update.set.items():
            state.put("params", name, Param(value=jcs(value).decode()))
        members = update.authorities or members
        state.remove("params", key)
        texts = {name: jcs(value).decode() for name, value in update.set.items()}
        changed = params_from_texts(texts)
        params = msgspec.structs.replace(params, **{name: getattr(changed, name) for name in update.set})
    if params.max_lock_ms < context.params.max_lock_ms:
        state.set_number(LONGEST_LOCK, longest_lock_ms(context, state))
    return params, members


def _renew_validators(context: BlockContext, state: Overlay, members: list[Member]) -> None:
    """The set of the next epoch; it is never empty: when nobody is left, everything stays as it was."""
    before = dict(members_of(state))
    by_stake = mode_of(state) == "hybrid"
    after = _by_stake(context, state, before) if by_stake else _by_list(context, state, before, members)
    if not any(record.power for record in after.values()):
        after = {address: _with_key(state, address, record) for address, record in before.items()}
    for address, new in after.items():
        known = before.get(address)
        record = msgspec.structs.replace(new, turns=known.turns if known else 0)
        if before.get(address) != record:
            state.put("validators", address, record)
    for address in before.keys() - after.keys():
        state.remove("validators", address)


def _by_list(
    context: BlockContext, state: Overlay, before: dict[str, ValidatorRecord], members: list[Member]
) -> dict[str, ValidatorRecord]:
    """`poa`, `cbp`: one vote each, in the order of the list; who is jailed keeps the place and has no vote."""
    keys = {address: record.auth_key for address, record in before.items()}
    if members:
        keys = {member.address: member.pubkey or keys.get(member.address, "") for member in members}
    after = {}
    for position, (address, text) in enumerate(keys.items()):
        jailed = state.bond("validator", address).jailed_until_ms > context.timestamp_ms
        record = ValidatorRecord(auth_key=text, power=0 if jailed else 1, position=position)
        after[address] = _with_key(state, address, record)
    return after


def _by_stake(
    context: BlockContext, state: Overlay, before: dict[str, ValidatorRecord]
) -> dict[str, ValidatorRecord]:
    """`hybrid`: power is stake. What is new of it comes in slowly, at most a third of the old set's power in an epoch,
    each newcomer its part: nobody takes a chain over at one boundary."""
    stakes = _stakes(context, state)
    ranked = sorted(stakes, key=lambda address: (-stakes[address], address))
    heard = {*ranked[: context.params.max_validators], *(before.keys() & stakes.keys())}
    old = {address: before[address].power if address in before else 0 for address in heard}
    wanted = sum(max(0, stakes[address] - old[address]) for address in heard)
    room = min(wanted, sum(record.power for record in before.values()) // 3)
    powers = {
        address: min(stakes[address], old[address])
        + (max(0, stakes[address] - old[address]) * room // wanted if wanted else 0)
        for address in heard
    }
    chosen = sorted((-power, address) for address, power in powers.items() if power)
    return {
        address: ValidatorRecord(
            auth_key=key_to_text(state.account(address).auth or key_from_text(before[address].auth_key)),
            power=-power,
            position=position,
        )
        for position, (power, address) in enumerate(chosen[: context.params.max_validators])
    }


def _stakes(context: BlockContext, state: Overlay) -> dict[str, int]:
    """The stake of everybody who may vote under `hybrid`."""
    stakes = {}
    for key, bond in state.items("registry", "bond:validator:"):
        assert isinstance(bond, Bond)
        address = key.removeprefix("bond:validator:")
        known = state.account(address).auth or member_key(state, address)
        jailed = bond.jailed_until_ms > context.timestamp_ms
        if bond.amount >= context.params.min_validator_stake and not jailed and known:
            stakes[address] = min(bond.amount, MAX_SIGNED)
    return stakes


def _with_key(state: Overlay, address: str, record: ValidatorRecord) -> ValidatorRecord:
    """The account's key of today, which a KEY_ROTATE may have changed; its first key while it has sent nothing.

    A newcomer may have rotated to a key that cannot vote since it was listed: it keeps its place and has no vote.
    """
    known = state.account(address).auth
    text = key_to_text(known) if known else record.auth_key
    power = record.power if key_from_text(text)[0] == ED25519 else 0
    return msgspec.structs.replace(record, auth_key=text, power=power)
