"""A signature scheme for simulations: a hash with the key inside. Anybody could forge it; nobody here tries, and it
costs a tenth of a real one."""

from hashlib import sha256

from aitbc.core.types.blocks import Validator


def key_named(name: str) -> bytes:
    """A key in the form of an Ed25519 one."""
    return b"\0" + sha256(name.encode()).digest()


def key_of(place: int, generation: int = 0) -> bytes:
    """A validator's key; `generation` counts its rotations."""
    return key_named(f"validator {place}" + f"/{generation}" * bool(generation))


def sign(auth_key: bytes, digest: bytes) -> bytes:
    return sha256(auth_key + digest).digest()


def verify(auth_key: bytes, digest: bytes, signature: bytes) -> bool:
    return signature == sha256(auth_key + digest).digest()


def validator(place: int, power: int) -> Validator:
    """Named by its place, so that a trace can be read."""
    return Validator(f"v{place}", key_of(place), power)
