"""The wallet file, version 1: JSON whose secret is sealed with ChaCha20-Poly1305 under an Argon2id key.

Everything but the ciphertext is authenticated with it. A checksum over the whole file tells damage from a
wrong password; a keyed check value tells a wrong password from tampering. docs/spec/keys.md
"""

import secrets
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec

from aitbc.adapters.keystore.interface import (
    KeyFileTampered,
    KeyFileTruncated,
    KeyInfo,
    Secret,
    UnknownKeyFile,
    WrongPassword,
)
from aitbc.core.codec.canonical import jcs, parse_json, unhex
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import ed25519_auth_key
from aitbc.core.types.reasons import Reason, Rejected

MAX_FILE_BYTES = 16 * 1024
"""A file with 24 words is about 1 KiB."""

_RESTORE = "restore it from a copy, or import its words again with: aitbc keys import"


class KdfCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one guess costs; bounded, so that a hostile file cannot exhaust the machine."""

    time_cost: Annotated[int, msgspec.Meta(ge=1, le=16)]
    memory_kib: Annotated[int, msgspec.Meta(ge=8, le=1024 * 1024)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=4)]


STANDARD_COST = KdfCost(time_cost=3, memory_kib=64 * 1024, lanes=4)
"""RFC 9106's second recommendation, for machines with little memory: about 0.1 s."""


class _Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["argon2id"]
    salt: str
    cost: KdfCost
    check: str
    """First 8 bytes of a second key's hash: right for the right password only."""


class _Cipher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["chacha20-poly1305"]
    nonce: str


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is not secret; the associated data of the ciphertext is its canonical JSON."""

    version: Literal[1]
    name: str
    address: str
    pubkey: str
    kdf: _Kdf
    cipher: _Cipher


class _WalletFile(_Header, frozen=True, forbid_unknown_fields=True):
    ciphertext: str
    checksum: str
    """sha256 of the rest of the file: finds damage without the password, and stops nobody who means harm."""


class _SealedSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: str
    mnemonic: str
    path: str


def info_of(name: str, secret: Secret) -> KeyInfo:
    auth_key = ed25519_auth_key(secret.seed)
    return KeyInfo(name=name, address=address_of(auth_key), pubkey=key_to_text(auth_key))


def seal(name: str, secret: Secret, password: str, cost: KdfCost = STANDARD_COST) -> bytes:
    """A wallet file with this secret under this password."""
    info, salt, nonce = info_of(name, secret), secrets.token_bytes(16), secrets.token_bytes(12)
    key, check = _stretch(password, salt, cost)
    header = _Header(
        version=1,
        name=name,
        address=info.address,
        pubkey=info.pubkey,
        kdf=_Kdf(name="argon2id", salt=salt.hex(), cost=cost, check=check),
        cipher=_Cipher(name="chacha20-poly1305", nonce=nonce.hex()),
    )
    plain = jcs(_SealedSecret(seed=secret.seed.hex(), mnemonic=secret.mnemonic, path=secret.path))
    fields: dict[str, Any] = msgspec.to_builtins(header)
    fields["ciphertext"] = _aead(key).encrypt(nonce, plain, jcs(header)).hex()
    fields["checksum"] = _checksum(fields)
    return msgspec.json.format(jcs(fields), indent=2) + b"\n"


def read_info(raw: bytes, name: str, where: str) -> KeyInfo:
    """What the wallet file kept under `name` says about its key, without the password."""
    file = _parse(raw, where)
    return KeyInfo(name=name, address=file.address, pubkey=file.pubkey)


def unseal(raw: bytes, password: str, where: str) -> Secret:
    """The secret inside a wallet file; each way to fail has its own error."""
    file = _parse(raw, where)
    from argon2.exceptions import HashingError

    try:
        key, check = _stretch(password, unhex(file.kdf.salt), file.kdf.cost)
    except HashingError:  # a salt or a cost that Argon2 does not take, under a checksum that was made for it
        raise _tampered(where) from None
    if check != file.kdf.check:
        raise WrongPassword(f"the password of {file.name!r} is another", "try again; nobody can reset it")
    header = _Header(**{name: getattr(file, name) for name in _Header.__struct_fields__})
    from cryptography.exceptions import InvalidTag

    try:
        plain = _aead(key).decrypt(unhex(file.cipher.nonce), unhex(file.ciphertext), jcs(header))
        sealed = parse_json(plain, _SealedSecret, limit=MAX_FILE_BYTES)
    except (InvalidTag, ValueError, Rejected):
        raise _tampered(where) from None
    return Secret(seed=unhex(sealed.seed, size=32), mnemonic=sealed.mnemonic, path=sealed.path)


def _parse(raw: bytes, where: str) -> _WalletFile:
    """The file as a record, whole and undamaged."""
    try:
        plain = parse_json(raw, dict[str, Any], limit=MAX_FILE_BYTES)
    except Rejected as rejected:
        if rejected.reason in (Reason.MALFORMED, Reason.WRONG_TYPE):
            raise KeyFileTruncated(f"{where} is cut off or no wallet file", _RESTORE) from None
        raise _tampered(where) from None
    if plain.get("version") != 1:
        raise UnknownKeyFile(
            f"{where} has version {str(plain.get('version'))[:20]}; this release reads version 1",
            "use a newer aitbc",
        )
    if plain.get("checksum") != _checksum(plain):
        raise _tampered(where)
    try:
        file = msgspec.convert(plain, _WalletFile)
        for text in (file.kdf.salt, file.cipher.nonce, file.ciphertext):
            unhex(text)
    except (msgspec.ValidationError, Rejected):
        raise _tampered(where) from None
    return file


def _tampered(where: str) -> KeyFileTampered:
    return KeyFileTampered(f"{where} was changed after it was written", _RESTORE)


def _checksum(fields: dict[str, Any]) -> str:
    return sha256(jcs({name: value for name, value in fields.items() if name != "checksum"})).hexdigest()


def _stretch(password: str, salt: bytes, cost: KdfCost) -> tuple[bytes, str]:
    """(key for the cipher, check value): two halves of one Argon2id output, the second one hashed."""
    from argon2.low_level import Type, hash_secret_raw

    stretched = hash_secret_raw(
        password.encode(),
        salt,
        time_cost=cost.time_cost,
        memory_cost=cost.memory_kib,
        parallelism=cost.lanes,
        hash_len=64,
        type=Type.ID,
    )
    return stretched[:32], sha256(b"aitbc/password-check/1" + stretched[32:]).hexdigest()[:16]


def _aead(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key)
