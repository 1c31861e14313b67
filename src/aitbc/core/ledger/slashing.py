"""What a proven double signature costs. docs/spec/evidence.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Offence, Role, Score

MAX_DOUBLINGS = 6
"""The longest jail is 64 times the first: a ban that ends (seed 000 §6.2)."""


def punish(
    context: BlockContext,
    state: Overlay,
    *,
    role: Role,
    offender: str,
    offence: bytes,
    expires_ms: int | None,
    slash: bool = True,
) -> list[tuple[str, str, int]]:
    """Burn a part of the stake, that on its way out included, and jail, twice as long each time; once for each offence.

    `expires_ms`: the block time after which nobody can bring it up again; None: its mark stays in the state. `slash`:
    False for what may be a difference of versions: it costs no stake.
    """
    mark = f"offence:{offence.hex()}"
    if state.get("registry", mark) is not None:
        raise Failed(Reason.ALREADY_PUNISHED, f"{offender} has been punished for this")
    state.put(
        "registry",
        mark,
        Offence(offender=offender, height=context.height, expires_ms=expires_ms or 0),
    )
    bond, part_bp = state.bond(role, offender), context.params.slash_bp if slash else 0
    burned = bond.amount * part_bp // BASIS_POINTS
    left = bond.amount - burned
    unbonding = []
    for part in bond.unbonding:
        lost = part.amount * part_bp // BASIS_POINTS
        burned += lost
        if part.amount > lost:
            unbonding.append(msgspec.structs.replace(part, amount=part.amount - lost))
    jail_ms = context.params.jail_ms << min(bond.offences, MAX_DOUBLINGS)
    state.put_bond(
        role,
        offender,
        msgspec.structs.replace(
            bond,
            amount=left,
            unbonding=unbonding,
            jailed_until_ms=max(bond.jailed_until_ms, context.after(jail_ms)),
            offences=min(bond.offences + 1, MAX_SIGNED),
        ),
    )
    if role == "validator":
        _lower_score(state, offender)
    if burned:
        state.add_supply("burned", burned)
    slashed: list[tuple[str, str, int]] = [("slashed", offender, burned)] if slash else []
    return [*slashed, ("jailed", offender, 0)]


def _lower_score(state: Overlay, validator: str) -> None:
    """Half of the compute that has earned it proposing is forgotten, and all of the running epoch's."""
    score = state.score(validator)
    if score.score or score.units:
        half = score.score // 2
        record = Score(score=half, units=0) if half else None
        state.put("validators", f"score:{validator}", record)
