"""Noise_XX_25519_ChaChaPoly_SHA256: two nodes agree on keys and learn each other's static key.
docs/spec/p2p.md "Encrypted channel"

The Noise Protocol Framework, revision 34, for this one pattern. Pure: the caller brings the entropy. Keys are X25519
and are no validator's keys: a node's identity is its static public key.
"""

import struct
from hashlib import sha256
from hmac import digest as hmac_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aitbc.core.crypto.hashing import fields
from aitbc.core.peer.reasons import PeerFault, PeerReason

PROTOCOL = b"Noise_XX_25519_ChaChaPoly_SHA256"
KEY_BYTES = 32
TAG_BYTES = 16
MAX_NONCE = 2**64 - 1
"""Noise keeps this one for rekeying; a cipher that reaches it is used up."""
NONCE = struct.Struct("<IQ")
"""Noise's ChaChaPoly nonce: 32 zero bits, then the counter, little-endian."""


def prologue_of(*, chain_id: str, genesis_hash: bytes) -> bytes:
    """What both sides must know before they talk; another chain's node fails inside the handshake."""
    return fields(b"aitbc/p2p/1", chain_id.encode(), genesis_hash)


def public_key_of(private: bytes) -> bytes:
    """The public half of a node key."""
    return _public(X25519PrivateKey.from_private_bytes(private))


class Cipher:
    """One direction's key and counter; used by one side to encrypt and by the other to decrypt."""

    def __init__(self, key: bytes, nonce: int = 0) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._nonce = nonce

    def encrypt(self, plaintext: bytes, bound: bytes = b"") -> bytes:
        return self._aead.encrypt(self._next(), plaintext, bound)

    def decrypt(self, ciphertext: bytes, bound: bytes = b"") -> bytes:
        """Refuses what was not encrypted with this key at this place of the stream: tampered, replayed, reordered."""
        try:
            return self._aead.decrypt(self._next(), ciphertext, bound)
        except InvalidTag:
            raise PeerFault(
                PeerReason.DECRYPTION_FAILED, "another chain's node, or bytes changed on the way"
            ) from None

    def _next(self) -> bytes:
        nonce = self._nonce
        if nonce >= MAX_NONCE:
            raise PeerFault(PeerReason.NONCES_EXHAUSTED, "this connection has sent all it may; open another")
        self._nonce = nonce + 1
        return NONCE.pack(0, nonce)


class Handshake:
    """The state of one side between the first byte and the keys.

    The initiator writes, reads, writes; the responder reads, writes, reads. Then `finished` is true, `remote` is the
    other's static key and `split` gives the ciphers. A fault ends it: the object is of no further use.
    """

    def __init__(self, *, initiator: bool, prologue: bytes, static: bytes, ephemeral: bytes) -> None:
        """`ephemeral` is 32 random bytes, used for this handshake only."""
        assert len(static) == KEY_BYTES and len(ephemeral) == KEY_BYTES
        self.initiator = initiator
        self.finished = False
        self.remote = b""
        """The other's static key; empty until it has proved that it holds it."""
        self._static = X25519PrivateKey.from_private_bytes(static)
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._remote_ephemeral: X25519PublicKey | None = None
        self._remote_static: X25519PublicKey | None = None
        self._step = 0
        self._chaining_key = PROTOCOL
        """The name is exactly a hash long, so it stands for its own hash."""
        self._cipher: Cipher | None = None
        self.hash = PROTOCOL
        """Of everything said so far; equal on both sides and different for any two handshakes."""
        self._mix_hash(prologue)

    @property
    def my_turn(self) -> bool:
        """Whether the next step is `write`."""
        return not self.finished and (self._step % 2 == 0) == self.initiator

    def write(self, payload: bytes = b"") -> bytes:
        """The next message."""
        assert self.my_turn, "handshake messages alternate"
        match self._step:
            case 0:  # → e
                message = self._write_ephemeral()
            case 1:  # ← e, ee, s, es
                message = self._write_ephemeral()
                self._mix_dh(self._ephemeral, self._remote_ephemeral)
                message += self._encrypt_and_hash(_public(self._static))
                self._mix_dh(self._static, self._remote_ephemeral)
            case _:  # → s, se
                message = self._encrypt_and_hash(_public(self._static))
                self._mix_dh(self._static, self._remote_ephemeral)
        message += self._encrypt_and_hash(payload)
        self._advance()
        return message

    def read(self, message: bytes) -> bytes:
        """Take the other's message; its payload. Anything but the right bytes is a fault with a name."""
        assert not self.my_turn and not self.finished, "handshake messages alternate"
        match self._step:
            case 0:
                rest = self._read_ephemeral(message)
            case 1:
                rest = self._read_ephemeral(message)
                self._mix_dh(self._ephemeral, self._remote_ephemeral)
                rest = self._read_static(rest)
                self._mix_dh(self._ephemeral, self._remote_static)
            case _:
                rest = self._read_static(message)
                self._mix_dh(self._ephemeral, self._remote_static)
        payload = self._decrypt_and_hash(rest)
        if self._remote_static is not None:
            self.remote = self._remote_static.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._advance()
        return payload

    def split(self) -> tuple[Cipher, Cipher]:
        """Ciphers to send and to receive with."""
        assert self.finished
        first, second = _hkdf(self._chaining_key, b"")
        return (Cipher(first), Cipher(second)) if self.initiator else (Cipher(second), Cipher(first))

    def _advance(self) -> None:
        self._step += 1
        self.finished = self._step == 3

    def _write_ephemeral(self) -> bytes:
        public = _public(self._ephemeral)
        self._mix_hash(public)
        return public

    def _read_ephemeral(self, message: bytes) -> bytes:
        public, rest = _cut(message, KEY_BYTES)
        self._remote_ephemeral = X25519PublicKey.from_public_bytes(public)
        self._mix_hash(public)
        return rest

    def _read_static(self, message: bytes) -> bytes:
        sealed, rest = _cut(message, KEY_BYTES + TAG_BYTES)
        self._remote_static = X25519PublicKey.from_public_bytes(self._decrypt_and_hash(sealed))
        return rest

    def _mix_hash(self, data: bytes) -> None:
        self.hash = sha256(self.hash + data).digest()

    def _mix_dh(self, private: X25519PrivateKey, public: X25519PublicKey | None) -> None:
        assert public is not None
        try:
            shared = private.exchange(public)
        except ValueError:
            raise PeerFault(PeerReason.BAD_KEY, "a public key of small order") from None
        self._chaining_key, key = _hkdf(self._chaining_key, shared)
        self._cipher = Cipher(key)

    def _encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = plaintext if self._cipher is None else self._cipher.encrypt(plaintext, self.hash)
        self._mix_hash(sealed)
        return sealed

    def _decrypt_and_hash(self, sealed: bytes) -> bytes:
        if self._cipher is None:
            plaintext = sealed
        elif len(sealed) < TAG_BYTES:
            raise PeerFault(PeerReason.BAD_HANDSHAKE_LENGTH, f"{len(sealed)} bytes where a tag takes 16")
        else:
            plaintext = self._cipher.decrypt(sealed, self.hash)
        self._mix_hash(sealed)
        return plaintext


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise PeerFault(PeerReason.BAD_HANDSHAKE_LENGTH, f"{len(message)} bytes; at least {size} are needed")
    return message[:size], message[size:]


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    secret = hmac_digest(chaining_key, material, "sha256")
    first = hmac_digest(secret, b"\x01", "sha256")
    return first, hmac_digest(secret, first + b"\x02", "sha256")
