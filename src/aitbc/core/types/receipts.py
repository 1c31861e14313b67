"""Compute receipts and attestations: who did what for whom, signed by the provider and by the hub.

The core is what the provider signs and the chain pays for; the details are what a reader wants to know and the core
commits to by hash. docs/spec/receipts.md
"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.types.amounts import AmountOrZero, Milliseconds, Units

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
HashText = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
HashTextOrEmpty = Annotated[str, msgspec.Meta(pattern=r"\A(sha256:[0-9a-f]{64})?\Z")]
HexHash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
HexHashOrEmpty = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]
NonceText = Annotated[str, msgspec.Meta(max_length=64)]
TaskNumber = Annotated[int, msgspec.Meta(ge=0, le=4095)]
Attempt = Annotated[int, msgspec.Meta(ge=0, le=255)]

MAX_TASKS = 4096


class ReceiptCore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the provider signs: seed 000 §18.2 without `receipt_id` and `miner_sig`, plus what ties it to a lock.

    Fields at their defaults are left out of the canonical bytes, so a synthetic devnet claim has the seed's shape.
    """

    job_id: Label
    client_addr: str
    miner_addr: str
    compute_units: Units
    price: AmountOrZero
    output_hash: HashText
    lock: HexHashOrEmpty = ""
    """Id of the JOB_LOCK that pays; empty only for a synthetic devnet job."""
    task: TaskNumber = 0
    attempt: Attempt = 0
    nonce: NonceText = ""
    details_hash: HashTextOrEmpty = ""


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a hub signs after it has checked a delivered result."""

    receipt_id: str
    lock: HexHashOrEmpty
    job_id: Label
    hub: str
    client: str
    provider: str
    task: TaskNumber
    attempt: Attempt
    units: Units
    price: AmountOrZero
    output_hash: HashText
    routed: Literal["random", "chosen", "synthetic", "calibration"]
    """Only work that the hub routed at random, or a devnet's synthetic work, mints."""
    candidates_hash: HashTextOrEmpty = ""


class SignedAttestation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    attestation: Attestation
    sig: str
    """Hexadecimal signature of the hub over `attestation_digest`."""
    pubkey: str = ""
    """The hub's key, needed while the chain does not know it."""


class ReceiptDetails(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The full receipt; `details_hash` of the core is the hash of its RFC 8785 bytes."""

    v: Literal[1]
    chain_id: str
    job_id: str
    task: TaskNumber
    attempt: Attempt
    ticket: HashText
    client: str
    provider: str
    hub: str
    kind: str
    model: str
    model_digest: str
    profile: str
    seed: str
    request_hash: HashText
    prompt_hash: HashText
    output_hash: HashText
    transcript_root: HashText
    candidates_hash: HashText
    units: Units
    unit_type: str
    counts: dict[str, int]
    notes: dict[str, str]
    gpu_ms: int
    """Time in the engine; information, not billed."""
    price: AmountOrZero
    pay: dict[str, str]
    started_ms: Milliseconds
    finished_ms: Milliseconds
    status: Literal["complete", "partial"]
    verify: str
    nonce: str
