"""Records as msgpack for wire and disk: arrays in field order, one byte form, sizes checked first."""

from typing import Any, TypeVar

import msgspec

from aitbc.core.types.reasons import Reason, Rejected

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def pack(record: Any) -> bytes:
    return _encoder.encode(record)


def unpack(raw: bytes, kind: type[T], *, limit: int) -> T:
    """Decode a record; refuses what is too large, of wrong form or a second spelling of the same value."""
    if len(raw) > limit:
        raise Rejected(Reason.TOO_LARGE, f"{len(raw)} bytes; at most {limit} are allowed")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value: T = decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Rejected(Reason.MALFORMED, str(error)) from None
    if _encoder.encode(value) != raw:
        raise Rejected(Reason.NOT_CANONICAL, "bytes are not the canonical msgpack of their value")
    return value
