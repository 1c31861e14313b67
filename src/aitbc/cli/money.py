"""Money as people type it, always with a unit: 1 AIT = 1,000 mAIT = 1,000,000 uAIT, the base unit."""

import re

import click

from aitbc.core.types.amounts import AIT, MAX_SIGNED, format_ait

UNITS = {"ait": AIT, "mait": AIT // 1_000, "uait": 1}

_MONEY = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,6}))?\s*([a-z]*)\Z")


def parse_money(text: str) -> int:
    """Base units of a text like `25ait`, `1.5mait` or `300uait`; else a ValueError that says why not."""
    match = _MONEY.match(text.strip().lower())
    if match is None:
        raise ValueError(f"{text[:40]!r} is no amount: write it like 25ait, 1.5mait or 300uait")
    whole, fraction, unit = match.group(1), match.group(2) or "", match.group(3)
    if not unit:
        raise ValueError(
            f"{text[:40]!r} has no unit: write {text.strip()}ait, {text.strip()}mait or {text.strip()}uait"
        )
    if unit not in UNITS:
        raise ValueError(
            f"{unit[:20]!r} is no unit of money: use ait, mait (0.001 AIT) or uait (0.000001 AIT)"
        )
    scale: int = 10 ** len(fraction)
    units, rest = divmod(int(whole + fraction) * UNITS[unit], scale)
    if rest:
        raise ValueError(f"{text[:40]!r} is finer than the smallest unit, 1uait = {format_ait(1)}")
    if units > MAX_SIGNED:
        raise ValueError(f"{text[:40]!r} is more than {format_ait(MAX_SIGNED)}, the most one amount can be")
    return units


def amount(text: str) -> int:
    """The type of a command line amount: at least one base unit."""
    value = amount_or_zero(text)
    if value == 0:
        raise click.BadParameter("the amount is nothing: give at least 1uait")
    return value


def amount_or_zero(text: str) -> int:
    try:
        return parse_money(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
