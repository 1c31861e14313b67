"""Keys of the other schemes, each from a name; RSA is left out because its signatures are random."""

from collections.abc import Callable
from hashlib import sha256

from aitbc.client.signing import KeySigner
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import (
    assemble_multisig,
    multisig_auth_key,
    secp256k1_auth_key,
    sign_secp256k1,
)
from support.people import person


class OtherKey:
    """The shape of `KeySigner`."""

    def __init__(self, auth_key: bytes, sign: Callable[[bytes], bytes]) -> None:
        self.auth_key = auth_key
        self.address = address_of(auth_key)
        self.sign = sign


def secp_key(name: str) -> OtherKey:
    secret = sha256(f"aitbc test secp256k1 {name}".encode()).digest()
    return OtherKey(secp256k1_auth_key(secret), lambda digest: sign_secp256k1(secret, digest))


def multisig_key(name: str) -> OtherKey:
    """Two of three, of two schemes; the first two of the key's order sign."""
    owners = [person(f"{name} 1"), secp_key(f"{name} 2"), person(f"{name} 3")]
    members = sorted(owners, key=lambda owner: owner.auth_key)
    auth_key = multisig_auth_key(2, [owner.auth_key for owner in members])

    def sign(digest: bytes) -> bytes:
        return assemble_multisig(auth_key, {place: members[place].sign(digest) for place in (0, 1)})

    return OtherKey(auth_key, sign)


def spare_keys(name: str) -> list[KeySigner | OtherKey]:
    """Twelve, most of them Ed25519."""
    kinds: list[Callable[[str], KeySigner | OtherKey]] = [*[person] * 4, secp_key, multisig_key]
    return [kinds[n % 6](f"{name} key {n}") for n in range(12)]
