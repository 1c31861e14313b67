"""Where private keys live: wallet files under a password, keys in memory, the well-known keys of a devnet."""

from aitbc.adapters.keystore.derivation import (
    DEFAULT_PATH,
    DEVNET_MNEMONIC,
    DEVNET_NAMES,
    devnet_keys,
    devnet_validators,
    new_mnemonic,
    secret_from_mnemonic,
)
from aitbc.adapters.keystore.interface import KeyInfo, Keystore, KeystoreError, Secret
from aitbc.adapters.keystore.stores import FileKeystore, MemoryKeystore

__all__ = [
    "DEFAULT_PATH",
    "DEVNET_MNEMONIC",
    "DEVNET_NAMES",
    "FileKeystore",
    "KeyInfo",
    "Keystore",
    "KeystoreError",
    "MemoryKeystore",
    "Secret",
    "devnet_keys",
    "devnet_validators",
    "new_mnemonic",
    "secret_from_mnemonic",
]
