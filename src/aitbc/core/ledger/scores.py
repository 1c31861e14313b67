"""Compute that counts for a validator: verified units of the providers that chose it, decaying by epoch.

Source: C ← C · λ + U at each boundary, integers (proposer weights of compute-backed proof, docs/spec/epochs.md).
Scores earn proposing, never votes.
"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED
from aitbc.core.types.records import Score


def count_units(context: BlockContext, state: Overlay, provider: str, units: int) -> None:
    """Count units that could mint for the provider's validator, up to the bound for one provider in one epoch."""
    if context.block_reward is not None:
        return  # nothing mints where work agrees, and scores elect nobody
    registration = state.registration("provider", provider)
    if registration is None or not registration.validator:
        return
    counted = registration.epoch_units if registration.epoch == context.epoch else 0
    bound = context.params.score_units_per_provider
    added = min(units, (bound or MAX_SIGNED) - counted)
    if added <= 0:
        return
    state.put(
        "registry",
        f"provider:{provider}",
        msgspec.structs.replace(registration, epoch=context.epoch, epoch_units=counted + added),
    )
    score = state.score(registration.validator)
    state.put(
        "validators",
        f"score:{registration.validator}",
        Score(score=score.score, units=min(score.units + added, MAX_SIGNED)),
    )


def decay_scores(context: BlockContext, state: Overlay) -> None:
    """At a boundary: C ← ⌊C · λ⌋ + U; what has come to nothing is forgotten."""
    kept = context.params.score_decay_bp
    for key, record in state.items("validators", "score:"):
        assert isinstance(record, Score)
        score = min(record.score * kept // BASIS_POINTS + record.units, MAX_SIGNED)
        state.put("validators", key, Score(score=score, units=0) if score else None)
