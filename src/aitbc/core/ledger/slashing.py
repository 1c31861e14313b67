"""What a proven double signature costs. docs/spec/evidence.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import BASIS_POINTS
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Offence, Role


def punish(
    context: BlockContext,
    state: Overlay,
    *,
    role: Role,
    offender: str,
    offence: bytes,
    expires_ms: int | None,
) -> list[tuple[str, str, int]]:
    """Burn a part of the stake, that on its way out included, and jail; once for each offence.

    `expires_ms`: the block time after which nobody can bring it up again; None: its mark stays in the state.
    """
    mark = f"offence:{offence.hex()}"
    if state.get("registry", mark) is not None:
        raise Failed(Reason.ALREADY_PUNISHED, f"{offender} has been punished for this")
    state.put(
        "registry",
        mark,
        Offence(offender=offender, height=context.height, expires_ms=expires_ms or 0),
    )
    bond, part_bp = state.bond(role, offender), context.params.slash_bp
    burned = bond.amount * part_bp // BASIS_POINTS
    left = bond.amount - burned
    unbonding = []
    for part in bond.unbonding:
        lost = part.amount * part_bp // BASIS_POINTS
        burned += lost
        if part.amount > lost:
            unbonding.append(msgspec.structs.replace(part, amount=part.amount - lost))
    jailed_until_ms = max(bond.jailed_until_ms, context.after(context.params.jail_ms))
    state.put_bond(
        role,
        offender,
        msgspec.structs.replace(bond, amount=left, unbonding=unbonding, jailed_until_ms=jailed_until_ms),
    )
    if burned:
        state.add_supply("burned", burned)
    return [("slashed", offender, burned), ("jailed", offender, 0)]
