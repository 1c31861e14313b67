"""One byte form per value: RFC 8785 JSON for what people sign, with every refusal named.

A decoder that accepts a second spelling is a defect, so every decode is followed by an encode and a comparison.
docs/spec/encoding.md
"""

import json
import re
from typing import Any, NoReturn, TypeVar

import msgspec

from aitbc.core.types.reasons import Reason, Rejected

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="sorted")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_HEX = re.compile(r"[0-9a-f]*\Z")


def jcs(value: Any) -> bytes:
    """RFC 8785 bytes of a record or of plain data.

    Equal to the general algorithm on our domain: integers within ±(2^53 − 1), ASCII keys, no floats
    (tests compare the two).
    """
    return _encoder.encode(value)


def parse_jcs(raw: bytes, kind: type[T]) -> T:
    """Decode bytes that must already be the one canonical form of a `kind`."""
    value = _decode(raw, kind)
    if _encoder.encode(value) != raw:
        raise Rejected(Reason.NOT_CANONICAL, "bytes are not the canonical JSON (RFC 8785) of their value")
    return value


def parse_json(raw: bytes, kind: type[T], *, limit: int) -> T:
    """Decode JSON from outside: any key order and white space, but no duplicate key, float or unknown field."""
    if len(raw) > limit:
        raise Rejected(Reason.TOO_LARGE, f"{len(raw)} bytes of JSON; at most {limit} are allowed")
    value = _decode(raw, kind)
    if _encoder.encode(value) != raw:
        plain_json(raw)
    return value


def plain_json(raw: bytes) -> Any:
    """Plain data from JSON, with duplicate keys and floats refused."""
    try:
        text = raw.decode("utf-8")
        value = _plain.decode(text)
        _encoder.encode(value)
    except (ValueError, RecursionError) as error:
        if "integer string conversion" in str(error):
            raise Rejected(Reason.OUT_OF_RANGE, "an integer of thousands of digits") from None
        raise Rejected(Reason.MALFORMED, f"not JSON: {error}") from None
    return value


def convert(value: Any, kind: type[T]) -> T:
    """A record from plain data (what `plain_json` returns)."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _rejection(error) from None


def unhex(text: str, *, size: int | None = None) -> bytes:
    """Bytes from lower-case hexadecimal; the only spelling accepted."""
    if len(text) % 2 or not _HEX.match(text):
        raise Rejected(Reason.BAD_HEX, f"{text[:80]!r} is not lower-case hexadecimal")
    if size is not None and len(text) != 2 * size:
        raise Rejected(Reason.BAD_HEX, f"{len(text) // 2} bytes where {size} are needed")
    return bytes.fromhex(text)


def _decode(raw: bytes, kind: type[T]) -> T:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(raw)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _rejection(error) from None


def _rejection(error: Exception) -> Rejected:
    """Name what msgspec found; its messages are stable enough to sort by and tests pin them."""
    text = str(error)
    if "unknown field" in text:
        return Rejected(Reason.UNKNOWN_FIELD, text)
    if "got `float`" in text or text.startswith("Number out of range"):
        return Rejected(Reason.FLOAT, text)
    if "missing required field" in text:
        return Rejected(Reason.MISSING_FIELD, text)
    if (
        re.search(r"Expected `(int|array|str|object|bytes)`.*(<=|>=|of length)", text)
        or "out of range" in text
    ):
        return Rejected(Reason.OUT_OF_RANGE, text)
    if isinstance(error, msgspec.ValidationError):
        return Rejected(Reason.WRONG_TYPE, text)
    return Rejected(Reason.MALFORMED, text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Rejected(Reason.DUPLICATE_KEY, f"key {twice[:80]!r} appears twice")
    return value


def _no_float(text: str) -> NoReturn:
    raise Rejected(Reason.FLOAT, f"number {text[:40]} is not an integer")


_plain = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float)
