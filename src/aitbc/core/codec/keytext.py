"""Keys as JSON writes them. docs/spec/keys.md"""

from aitbc.core.codec.canonical import unhex
from aitbc.core.crypto.schemes import ED25519, SCHEMES, scheme_of
from aitbc.core.types.reasons import Reason, Rejected


def key_to_text(auth_key: bytes) -> str:
    """As JSON writes keys: plain hexadecimal for Ed25519, `<scheme>:<hex>` for others."""
    scheme = scheme_of(auth_key)
    text = auth_key[1:].hex()
    return text if auth_key[0] == ED25519 else f"{scheme.name}:{text}"


def key_from_text(text: str) -> bytes:
    """The inverse of `key_to_text`."""
    name, colon, rest = text.partition(":")
    if not colon:
        auth_key = bytes([ED25519]) + unhex(text, size=32)
    else:
        tag = next((tag for tag, s in SCHEMES.items() if s.name == name and tag != ED25519), None)
        if tag is None:
            raise Rejected(Reason.UNKNOWN_SCHEME, f"{name[:40]!r} is no known signature scheme")
        auth_key = bytes([tag]) + unhex(rest)
    scheme_of(auth_key)
    return auth_key
