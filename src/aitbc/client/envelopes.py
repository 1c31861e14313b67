"""Transactions on their way to a signature: a file that travels between machines, signed by one key or by k of n.

Who makes it asks a node for chain, nonce and fee; who signs needs no network; anybody may send it then. A file holds
no secret. docs/spec/envelopes.md
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from aitbc.client.errors import ClientError
from aitbc.client.transactions import Prepared, Signer, Unsigned
from aitbc.core.codec.canonical import convert, plain_json, unhex
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.views import transaction_from_plain, transaction_to_plain
from aitbc.core.crypto.schemes import MULTISIG, assemble_multisig, multisig_members, verify
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction

MAX_ENVELOPE_BYTES = 256 * 1024
"""A transaction in JSON has at most 64 KiB; with sixteen RSA signatures and room to spare."""
MAX_SIGNATURES = 16
"""As many as a multisig has members."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction with the signatures that it has so far."""

    chain_id: str
    """For people: what is signed is bound to the genesis hash alone."""
    genesis_hash: bytes
    tx: Transaction
    """Without a signature; its `pubkey` is the account's whole key."""
    signatures: Mapping[bytes, bytes]
    """Auth key of who signed → signature; every one is good."""

    @property
    def tx_id(self) -> bytes:
        return transaction_id(self.tx, self.genesis_hash)

    @property
    def signers(self) -> list[bytes]:
        """The keys that may sign: the account's, or the members of its multisig."""
        return signers_of(self.tx.pubkey)

    @property
    def needed(self) -> int:
        """How many of them must."""
        return threshold_of(self.tx.pubkey)

    @property
    def missing(self) -> int:
        return max(0, self.needed - len(self.signatures))


class _EnvelopeJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["aitbc-transaction-1"]
    chain_id: str
    genesis_hash: str
    tx: dict[str, Any]
    signatures: dict[str, str]


def signers_of(auth_key: bytes) -> list[bytes]:
    return multisig_members(auth_key).keys if auth_key[0] == MULTISIG else [auth_key]


def threshold_of(auth_key: bytes) -> int:
    return multisig_members(auth_key).threshold if auth_key[0] == MULTISIG else 1


def envelope_of(unsigned: Unsigned, chain_id: str) -> Envelope:
    return Envelope(chain_id=chain_id, genesis_hash=unsigned.genesis_hash, tx=unsigned.tx, signatures={})


def envelope_to_plain(envelope: Envelope) -> dict[str, Any]:
    return {
        "format": "aitbc-transaction-1",
        "chain_id": envelope.chain_id,
        "genesis_hash": envelope.genesis_hash.hex(),
        "tx": transaction_to_plain(envelope.tx),
        "signatures": {key_to_text(key): sig.hex() for key, sig in sorted(envelope.signatures.items())},
    }


def envelope_from_json(raw: bytes) -> Envelope:
    """Checked in full, each signature too; raises ClientError `bad_envelope`."""
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise _bad(f"it has more than {MAX_ENVELOPE_BYTES} bytes")
    try:
        view = convert(plain_json(raw), _EnvelopeJson)
        envelope = Envelope(
            chain_id=view.chain_id[:64],
            genesis_hash=unhex(view.genesis_hash, size=32),
            tx=_unsigned(transaction_from_plain({**view.tx, "sig": view.tx.get("sig") or "00"})),
            signatures={key_from_text(key): unhex(sig) for key, sig in view.signatures.items()},
        )
    except Rejected as rejected:
        raise _bad(rejected.message) from None
    for key, signature in envelope.signatures.items():
        _check(envelope, key, signature)
    return envelope


def sign_envelope(envelope: Envelope, signer: Signer) -> Envelope:
    """With this key's signature; refuses a key that may not sign."""
    if signer.auth_key not in envelope.signers:
        raise ClientError(
            "not_a_signer",
            f"{key_to_text(signer.auth_key)} is neither the key of {envelope.tx.sender} nor a member of it",
            "sign with a key that aitbc tx decode FILE names",
        )
    return _with(envelope, {signer.auth_key: signer.sign(envelope.tx_id)})


def combine(envelopes: Iterable[Envelope]) -> Envelope:
    """The signatures of all; refuses files of different transactions."""
    first, *others = envelopes
    for other in others:
        if (other.tx, other.genesis_hash) != (first.tx, first.genesis_hash):
            raise ClientError(
                "other_transaction",
                f"one file is transaction {first.tx_id.hex()}, another is {other.tx_id.hex()}",
                "combine files that come from one and the same unsigned file",
            )
        first = _with(first, other.signatures)
    return first


def complete(envelope: Envelope) -> Prepared:
    """The signed transaction; refuses when signatures are missing. Of more than needed the first members' count."""
    if envelope.missing:
        raise ClientError(
            "signatures_missing",
            f"{len(envelope.signatures)} of {envelope.needed} signatures are there",
            "have it signed with: aitbc tx sign FILE --key NAME, and put the files together with: aitbc tx combine",
        )
    places = [place for place, key in enumerate(envelope.signers) if key in envelope.signatures]
    by_place = {place: envelope.signatures[envelope.signers[place]] for place in places[: envelope.needed]}
    key = envelope.tx.pubkey
    sig = assemble_multisig(key, by_place) if key[0] == MULTISIG else by_place[0]
    return Prepared(msgspec.structs.replace(envelope.tx, sig=sig), envelope.tx_id.hex())


def _with(envelope: Envelope, signatures: Mapping[bytes, bytes]) -> Envelope:
    for key, signature in signatures.items():
        _check(envelope, key, signature)
    return msgspec.structs.replace(envelope, signatures={**envelope.signatures, **signatures})


def _check(envelope: Envelope, key: bytes, signature: bytes) -> None:
    if key not in envelope.signers:
        raise _bad(f"{key_to_text(key)} may not sign for {envelope.tx.sender}")
    if not verify(key, envelope.tx_id, signature):
        raise _bad(f"the signature of {key_to_text(key)} is not good for this transaction")


def _unsigned(tx: Transaction) -> Transaction:
    """Without a signature, and of a key that is one."""
    if not tx.pubkey:
        raise _bad("it does not name the account's key")
    signers_of(tx.pubkey)
    return msgspec.structs.replace(tx, sig=b"")


def _bad(why: str) -> ClientError:
    return ClientError(
        "bad_envelope", f"this is no transaction to sign: {why}", "make the file again with --unsigned FILE"
    )
