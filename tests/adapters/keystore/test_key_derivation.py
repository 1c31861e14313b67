"""Words to keys: the published vectors of BIP-39 and SLIP-0010, and the packages that implement them."""

import pytest
from mnemonic import Mnemonic
from slip10 import SLIP10

from aitbc.adapters.keystore import (
    DEFAULT_PATH,
    DEVNET_MNEMONIC,
    DEVNET_NAMES,
    devnet_keys,
    new_mnemonic,
    secret_from_mnemonic,
)
from aitbc.adapters.keystore.derivation import derive_ed25519, mnemonic_seed
from aitbc.adapters.keystore.interface import BadSecret
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import ed25519_auth_key

SLIP_SEED = bytes.fromhex("000102030405060708090a0b0c0d0e0f")

SLIP_0010_VECTOR_1 = [
    ("m/0'", "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"),
    ("m/0'/1'", "b1d0bad404bf35da785a64ca1ac54b2617211d2777696fbffaf208f746ae84f2"),
    ("m/0'/1'/2'", "92a5b23c0b8a99e37d07df3fb9966917f5d06e02ddbd909c7e184371463e9fc9"),
    ("m/0'/1'/2'/2'", "30d1dc7e5fc04c31219ab25a27ae00b50f6fd66622f6e9c913253d6511d1e662"),
    ("m/0'/1'/2'/2'/1000000000'", "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793"),
]


@pytest.mark.parametrize(("path", "key"), SLIP_0010_VECTOR_1)
def test_the_slips_own_vectors(path: str, key: str) -> None:
    assert derive_ed25519(SLIP_SEED, path).hex() == key


def test_bip_39s_own_vector() -> None:
    words = "abandon " * 11 + "about"
    assert mnemonic_seed(words, "TREZOR").hex() == (
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531"
        "f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04"
    )


@pytest.mark.parametrize("seed", [b"", b"x" * 64, bytes(16)])
def test_derivation_is_the_slip10_packages(seed: bytes) -> None:
    root = SLIP10.from_seed(seed, curve_name="ed25519")
    for path in ("m/0'", DEFAULT_PATH, "m/44'/2048'/2147483647'/1'"):
        assert derive_ed25519(seed, path) == root.get_privkey_from_path(path)


def test_words_are_the_mnemonic_packages() -> None:
    words = new_mnemonic()
    assert len(words.split()) == 12
    assert Mnemonic("english").check(words)
    assert mnemonic_seed(words) == Mnemonic.to_seed(words)
    assert new_mnemonic() != words


def test_words_may_be_typed_sloppily() -> None:
    words = new_mnemonic()
    sloppy = "  " + words.upper().replace(" ", " \n ")
    assert secret_from_mnemonic(sloppy) == secret_from_mnemonic(words)


@pytest.mark.parametrize("words", ["", "zebra", "abandon " * 12, "not words at all " * 3])
def test_wrong_words_are_refused(words: str) -> None:
    with pytest.raises(BadSecret, match="no BIP-39 mnemonic"):
        secret_from_mnemonic(words)


@pytest.mark.parametrize("path", ["", "m", "m/44", "44'/0'", "m/0'/x'", "m/2147483648'", "m/0'\n"])
def test_a_path_without_hardening_has_no_ed25519_key(path: str) -> None:
    with pytest.raises(BadSecret, match="no path"):
        secret_from_mnemonic(DEVNET_MNEMONIC, path)


def test_the_devnet_has_the_same_keys_everywhere() -> None:
    addresses = {name: address_of(ed25519_auth_key(seed)) for name, seed in devnet_keys().items()}
    assert tuple(addresses) == DEVNET_NAMES
    assert addresses["validator"] == "ait1vn0cn3a76yv7cwd4f0sa8d6gxq79nr4238vudd"
    assert addresses["alice"] == "ait1ntpnqd73464d6wv6dfxhvtkk3nj5hkld5nycpj"
    assert len(set(addresses.values())) == 9
