"""How fast this machine serves each model, in compute units: what a price and a number of slots can be chosen by.

The units are those that a client would pay for the same request, so the figure is the machine's earning speed.
"""

import asyncio
import time

import msgspec

from aitbc.core.jobs.requests import engine_request
from aitbc.core.jobs.units import actual_units, profile_of
from aitbc.ports import EngineError
from aitbc.provider.engine import EngineProcess
from aitbc.provider.warm_up import calibration_request

MOST_SLOTS = 8
WORTH_IT = 1.2
"""Slots that gain less than a fifth only make everybody wait longer."""
TRIES = 3


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """One model on this machine."""

    model: str
    digest: str
    units_per_s: float
    """Of one request after the other."""
    slots: int
    """As many as are worth it."""
    units_per_s_together: float
    """With that many at once."""


async def calibrate(engine: EngineProcess) -> list[Calibrated]:
    """Of every model that the engine serves, in order; one that fails is left out by `EngineProcess.start` before."""
    found = []
    for model, card in sorted(engine.cards.items()):
        alone = max([await _speed(engine, model, slots=1, first_seed=seed) for seed in range(TRIES)])
        most = min(card.together, MOST_SLOTS)
        together = await _speed(engine, model, slots=most, first_seed=TRIES) if most > 1 else alone
        slots = most if together > alone * WORTH_IT else 1
        found.append(
            Calibrated(
                model=model,
                digest=card.digest,
                units_per_s=round(alone, 1),
                slots=slots,
                units_per_s_together=round(together if slots > 1 else alone, 1),
            )
        )
    return found


async def _speed(engine: EngineProcess, model: str, *, slots: int, first_seed: int) -> float:
    """Compute units a second, `slots` requests at once."""
    began = time.perf_counter()
    units = await asyncio.gather(*[_units(engine, model, first_seed + at) for at in range(slots)])
    return sum(units) / (time.perf_counter() - began)


async def _units(engine: EngineProcess, model: str, seed: int) -> int:
    request = calibration_request(model, seed)
    output, _ = await engine.run(
        run_id=f"calibration/{seed}",
        model=model,
        request=engine_request(request),
        on_event=lambda _event: None,
    )
    if not output.counts:
        raise EngineError("failed", f"{model} counts nothing")
    return actual_units(profile_of(model), request, output.counts)


def price_for(hourly: int, units_per_s: float) -> int:
    """Base units for 1,000 units, so that an hour of nothing but this work brings `hourly`; at least one."""
    return max(1, round(hourly * 1000 / (units_per_s * 3600)))


def hourly_for(price_per_kilounit: int, units_per_s: float) -> int:
    """What an hour of nothing but this work brings, without what is minted."""
    return round(price_per_kilounit * units_per_s * 3600 / 1000)
