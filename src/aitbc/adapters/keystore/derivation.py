"""From words to keys: BIP-39 words to a seed, SLIP-0010 from the seed to an Ed25519 key. docs/spec/keys.md

Deriving is a dozen lines of HMAC-SHA512 here because a devnet does it in each of its processes and the slip10
package takes 0.2 CPU-s to import; the tests hold it to that package and to the SLIP's published vectors.
"""

import hmac
import re
import unicodedata
from functools import cache
from hashlib import pbkdf2_hmac

from aitbc.adapters.keystore.interface import BadSecret, Secret

COIN = 2048
"""Our second path component; unregistered in SLIP-0044, and hardened like every Ed25519 step."""

DEFAULT_PATH = f"m/44'/{COIN}'/0'"

DEVNET_MNEMONIC = "test test test test test test test test test test test junk"
"""Public on purpose: whoever finds money under it on a real chain may take it."""

DEVNET_NAMES = (
    "validator",
    "faucet",
    "hub",
    "provider",
    "alice",
    "bob",
    "carol",
    "treasury",
    "synthetic-attester",
)
"""In the order of their last path component."""

_PATH = re.compile(r"m(?:/[0-9]{1,10}')+\Z")
_HARDENED = 2**31


@cache
def devnet_keys() -> dict[str, bytes]:
    """The well-known devnet keys: name → 32-byte Ed25519 seed. Worthless anywhere but on a devnet."""
    seed = mnemonic_seed(DEVNET_MNEMONIC)
    return {name: derive_ed25519(seed, f"m/44'/{COIN}'/{i}'") for i, name in enumerate(DEVNET_NAMES)}


@cache
def devnet_validators(count: int) -> tuple[bytes, ...]:
    """The keys of a devnet's validators: the well-known `validator`, then one step below its path."""
    seed = mnemonic_seed(DEVNET_MNEMONIC)
    others = (derive_ed25519(seed, f"{DEFAULT_PATH}/{i}'") for i in range(1, count))
    return (devnet_keys()["validator"], *others)


def new_mnemonic() -> str:
    """Twelve words from 128 bits of the operating system's randomness."""
    from mnemonic import Mnemonic

    return Mnemonic("english").generate(strength=128)


def secret_from_mnemonic(words: str, path: str = DEFAULT_PATH, passphrase: str = "") -> Secret:
    """The key at `path` under some words; refuses words whose checksum is wrong. Words that need a passphrase (BIP-39)
    are not kept: without it they are another key's."""
    from mnemonic import Mnemonic

    mnemonic = " ".join(unicodedata.normalize("NFKD", words).lower().split())
    if not Mnemonic("english").check(mnemonic):
        count = len(mnemonic.split())
        raise BadSecret(
            f"these {count} words are no BIP-39 mnemonic", "check spelling and order: 12 to 24 English words"
        )
    seed = derive_ed25519(mnemonic_seed(mnemonic, passphrase), path)
    return Secret(seed=seed) if passphrase else Secret(seed=seed, mnemonic=mnemonic, path=path)


def mnemonic_seed(mnemonic: str, passphrase: str = "") -> bytes:
    """BIP-39: 64 bytes from words, whose checksum is not looked at."""
    text, salt = (
        unicodedata.normalize("NFKD", part).encode() for part in (mnemonic, "mnemonic" + passphrase)
    )
    return pbkdf2_hmac("sha512", text, salt, 2048)


def derive_ed25519(seed: bytes, path: str) -> bytes:
    """SLIP-0010 for Ed25519, where every step is hardened."""
    key, chain_code = _halves(b"ed25519 seed", seed)
    for index in _indices(path):
        key, chain_code = _halves(chain_code, b"\x00" + key + (_HARDENED + index).to_bytes(4, "big"))
    return key


def _halves(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    joined = hmac.digest(key, data, "sha512")
    return joined[:32], joined[32:]


def _indices(path: str) -> list[int]:
    parts = [int(part.rstrip("'")) for part in path.split("/")[1:]] if _PATH.match(path) else []
    if not parts or any(part >= _HARDENED for part in parts):
        raise BadSecret(f"{path[:60]!r} is no path for an Ed25519 key", f"write it like {DEFAULT_PATH}")
    return parts
