"""One signer for every signature scheme that the chain takes, so that no test has to name them."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any

from aitbc.core.crypto import schemes
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import SCHEMES
from support.ledger import Holder
from support.people import person

RSA_PRIMES = (
    0xFA2EC96BA7A5EAEC5295667F1991A6001C61D800513B5DA9CF2BE73CAA80F1EC980813DBEA7D986BDEA13D0CF60CCBE2B81E7FD354BE2F56E0CB4EAEEDA5EFAA6D61D8A5A3868C80CBA96D88C9EDA9FDC6DEA8847B22CAA761E0493410DE2DF651A38DC4A9F3F99FD644181F291F18A235B6AF4AD51CCEAC884144833A6BEF97,
    0xE4866353818227CE2A1D2D968C99E1FEBAF7A9AA8CB2974FBF8D0BFA5A3B9131AAF4263413E73C9D0F2BD168A0DA3CC6BB530330BD0CF3062DDF17DF63B1B065E6592B0C51B62F3EC7C0A3A11673914B005444A97ACA388786287ECBEB0905FDB005FB49D9EDB88C8FF8F87D5CB54A3899CE8A05C1AD3E9D604591B0BA2BAACD,
)
"""Of a 2,048-bit key that is worth nothing; making one anew in each run takes too long."""


@cache
def every_scheme() -> dict[str, Holder]:
    """A signer by the name of its scheme; a scheme without one here is an error, so that a new one is tested too."""
    return {scheme.name: MAKERS[scheme.name]() for scheme in SCHEMES.values()}


def _holder(auth_key: bytes, sign: Callable[[bytes], bytes]) -> Holder:
    return Holder(address_of(auth_key), auth_key, sign)


def _ed25519() -> Holder:
    key = person("ed25519")
    return _holder(key.auth_key, key.sign)


def _secp256k1() -> Holder:
    library: Any = schemes
    secret = sha256(b"aitbc test secp256k1").digest()
    return _holder(library.secp256k1_auth_key(secret), lambda digest: library.sign_secp256k1(secret, digest))


def _rsa_pss() -> Holder:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    library: Any = schemes
    p, q = RSA_PRIMES
    d = pow(65_537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65_537, p * q)
    )
    der = numbers.private_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return _holder(library.rsa_pss_auth_key(der), lambda digest: library.sign_rsa_pss(der, digest))


def _multisig() -> Holder:
    """Two of three: an RSA key and two others."""
    library: Any = schemes
    members = sorted([_ed25519(), _secp256k1(), _rsa_pss()], key=lambda member: member.auth_key)
    auth_key = library.multisig_auth_key(2, [member.auth_key for member in members])

    def sign(digest: bytes) -> bytes:
        return library.assemble_multisig(  # type: ignore[no-any-return]
            auth_key, {place: members[place].sign(digest) for place in (0, 2)}
        )

    return _holder(auth_key, sign)


MAKERS: dict[str, Callable[[], Holder]] = {
    "ed25519": _ed25519,
    "secp256k1": _secp256k1,
    "rsa-pss": _rsa_pss,
    "multisig": _multisig,
}
