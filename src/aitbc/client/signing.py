"""A signer over a key in memory: the shape of `ports.Signer`, its secret out of reach of logs and pickles."""

from typing import NoReturn

from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import ed25519_auth_key, sign_ed25519


class KeySigner:
    """Signs with one Ed25519 key, for the account of its own address unless another is given."""

    __slots__ = ("_address", "_auth_key", "_seed")

    def __init__(self, seed: bytes, *, address: str = "") -> None:
        """`address`: of an account to which this key was given by KEY_ROTATE."""
        if len(seed) != 32:
            raise ValueError(f"an Ed25519 secret key has 32 bytes, not {len(seed)}")
        self._seed = seed
        self._auth_key = ed25519_auth_key(seed)
        self._address = address or address_of(self._auth_key)

    @property
    def auth_key(self) -> bytes:
        """Scheme byte and public key."""
        return self._auth_key

    @property
    def address(self) -> str:
        return self._address

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest."""
        assert len(digest) == 32, "only digests are signed"
        return sign_ed25519(self._seed, digest)

    def __repr__(self) -> str:
        return f"KeySigner({self._address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeySigner cannot be copied or pickled: it would leave a secret behind")
