"""Settings as people write them, in the environment or a file: each parser raises ValueError with what it wants."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from aitbc.core.crypto.address import check_address
from aitbc.core.types.amounts import BASIS_POINTS
from aitbc.core.types.reasons import Rejected

Parser = Callable[[Any], Any]
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h)\Z")
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("a text is wanted")
    return str(value).strip()


def flag(value: Any) -> bool:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ValueError("true or false is wanted")
    return found


def integer(least: int, most: int) -> Parser:
    def parse(value: Any) -> int:
        if isinstance(value, bool | float) or not re.fullmatch(r"-?\d{1,19}", str(value).strip()):
            raise ValueError(f"an integer from {least} to {most} is wanted")
        number = int(value)
        if not least <= number <= most:
            raise ValueError(f"{number} is not from {least} to {most}")
        return number

    return parse


def port(value: Any) -> int:
    return int(integer(1, 65_535)(value))


def number(value: Any) -> float:
    try:
        found = float(str(value))
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1e9:
        raise ValueError("a number from 0 to a thousand million is wanted")
    return found


def milliseconds(least: int, most: int) -> Parser:
    """`1s`, `500ms`, `2m`; a bare number is seconds, as in `BLOCK_TIME=1`."""

    def parse(value: Any) -> int:
        written = str(value).strip().lower()
        found = _DURATION.match(written if written[-1:].isalpha() else written + "s")
        if found is None:
            raise ValueError("a time such as 1s, 500ms or 2m is wanted")
        exact = Decimal(found[1]) * _MILLISECONDS[found[2]]
        if exact != int(exact) or not least <= exact <= most:
            raise ValueError(f"{written} is not from {least} to {most} ms in whole milliseconds")
        return int(exact)

    return parse


def ratio(value: Any) -> int:
    """`0.05` as 500 basis points, exactly."""
    try:
        points = Decimal(str(value)) * BASIS_POINTS
    except InvalidOperation:
        raise ValueError("a decimal number such as 0.05 is wanted") from None
    if not points.is_finite() or points != int(points) or not 0 <= points <= BASIS_POINTS:
        raise ValueError(f"{value} is not between 0 and 1 in steps of 0.0001")
    return int(points)


def words(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(part for part in (text(part) for part in parts) if part)


def dialled(value: Any) -> tuple[str, ...]:
    """`ws://host:7070` as seed 000 writes it is dialled over TCP: `host:7070`."""
    return tuple(re.sub(r"\A(ws|tcp)://", "", word).rstrip("/") for word in words(value))


def one_of(*choices: str) -> Parser:
    def parse(value: Any) -> str:
        found = str(value).strip().lower()
        if found not in choices:
            raise ValueError(f"one of {', '.join(choices)} is wanted")
        return found

    return parse


def address(value: Any) -> str:
    """`ait1…`, or the same twenty bytes as `0x…`."""
    written = text(value)
    if re.fullmatch(r"0x[0-9a-fA-F]{40}", written):
        from aitbc.core.crypto.address import encode_address

        return encode_address(bytes.fromhex(written[2:]))
    try:
        check_address(written)
    except Rejected as rejection:
        raise ValueError(f"{rejection.message}, nor 0x and 40 hexadecimal digits") from None
    return written


def weighted(value: Any) -> dict[str, int]:
    """`key:10,other:2`; a mapping in a file."""
    pairs = value.items() if isinstance(value, dict) else [word.rpartition(":")[::2] for word in words(value)]
    found = {str(key): int(integer(1, 1_000_000)(times)) for key, times in pairs}
    if any(len(key) < 8 for key in found):
        raise ValueError("keys of 8 characters or more are wanted, each with :times")
    return found
