"""Named keys, each from the SHA-256 of its name."""

from hashlib import sha256

from aitbc.client.signing import KeySigner


def person(name: str) -> KeySigner:
    return KeySigner(sha256(f"aitbc test {name}".encode()).digest())


ALICE, BOB, HUB, PROVIDER, VALIDATOR, FAUCET, SYNTHETIC, EVE = (
    person(name) for name in ("alice", "bob", "hub", "provider", "validator", "faucet", "synthetic", "eve")
)
