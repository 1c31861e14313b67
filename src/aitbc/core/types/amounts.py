"""Money and compute are integers. Rules: docs/spec/numbers.md."""

from typing import Annotated

import msgspec

AIT = 1_000_000
"""Base units in one AIT."""

MAX_SIGNED = 2**53 - 1
"""Largest integer in signed JSON: exact in every language that reads numbers as IEEE doubles."""

MAX_TOTAL = 2**63 - 1
"""Largest balance, total or supply: what a signed 64-bit column holds."""

BASIS_POINTS = 10_000
"""A ratio of 1 is 10,000 basis points; `COORDINATOR_RATIO=0.05` is 500."""

MAX_UNITS = 10**12
"""Largest compute count of one receipt (1,000 = one second of the reference card): about 31 years."""

Amount = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
AmountOrZero = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)]
Units = Annotated[int, msgspec.Meta(ge=1, le=MAX_UNITS)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)]
"""Unix time in milliseconds."""


def format_ait(base_units: int) -> str:
    """An amount for people, always with its unit: 1500000 → `1.5 AIT`."""
    sign = "-" if base_units < 0 else ""
    whole, rest = divmod(abs(base_units), AIT)
    if rest == 0:
        return f"{sign}{whole:,} AIT"
    return f"{sign}{whole:,}.{rest:06d}".rstrip("0") + " AIT"
