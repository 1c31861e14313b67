"""Why something was refused: one enumeration for the node, the hub, the CLI and the documentation.

*Invalid*: form, signature, nonce or fee; such a transaction is never in a block. *Failed*: the state says no; the
transaction is in a block, its nonce and fee are spent and nothing else happened.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Each value is published in docs/spec/reasons.md; a test keeps the two lists equal."""

    # form of bytes and JSON
    MALFORMED = "malformed"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_FIELD = "unknown_field"
    FLOAT = "float_not_allowed"
    OUT_OF_RANGE = "out_of_range"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    NOT_CANONICAL = "not_canonical"
    TOO_LARGE = "too_large"
    BAD_ADDRESS = "bad_address"
    BAD_HEX = "bad_hex"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_SCHEME = "unknown_scheme"
    BAD_KEY = "bad_key"
    UNEXPECTED_WITNESS = "unexpected_witness"

    # transaction as such
    BAD_SIGNATURE = "bad_signature"
    WRONG_KEY = "wrong_key"
    PUBKEY_REQUIRED = "pubkey_required"
    BAD_NONCE = "bad_nonce"
    NONCE_GAP = "nonce_gap"
    ROTATION_WAITS = "rotation_waits"
    FEE_TOO_LOW = "fee_too_low"
    FEE_NOT_COVERED = "fee_not_covered"
    REPLACEMENT_FEE_TOO_LOW = "replacement_fee_too_low"
    ALREADY_KNOWN = "already_known"
    MEMPOOL_FULL = "mempool_full"
    TOO_MANY_PENDING = "too_many_pending"
    IN_BLOCK = "in_block"
    WAITED_TOO_LONG = "waited_too_long"
    CANNOT_INCLUDE = "cannot_include"
    TOO_BUSY = "too_busy"
    NODE_STOPPED = "node_stopped"

    # what the state says
    INSUFFICIENT_BALANCE = "insufficient_balance"
    SUPPLY_EXHAUSTED = "supply_exhausted"
    NOT_DEVNET = "not_devnet"
    NOT_FAUCET = "not_faucet"
    FAUCET_LIMIT = "faucet_limit"
    UNKNOWN_HUB = "unknown_hub"
    UNKNOWN_PROVIDER = "unknown_provider"
    DEADLINE_PASSED = "deadline_passed"
    DEADLINE_TOO_FAR = "deadline_too_far"
    UNKNOWN_LOCK = "unknown_lock"
    LOCK_CLOSED = "lock_closed"
    REFUND_TOO_EARLY = "refund_too_early"
    CLAIM_TOO_LATE = "claim_too_late"
    UNKNOWN_TASK = "unknown_task"
    TASK_ALREADY_PAID = "task_already_paid"
    RECEIPT_ALREADY_CLAIMED = "receipt_already_claimed"
    RECEIPT_ID_MISMATCH = "receipt_id_mismatch"
    BAD_PROVIDER_SIGNATURE = "bad_provider_signature"
    ATTESTATION_MISSING = "attestation_missing"
    ATTESTATION_MISMATCH = "attestation_mismatch"
    BAD_ATTESTATION_SIGNATURE = "bad_attestation_signature"
    UNITS_ABOVE_ATTESTED = "units_above_attested"
    PRICE_ABOVE_ESCROW = "price_above_escrow"
    WRONG_CLIENT = "wrong_client"
    WRONG_HUB = "wrong_hub"
    WRONG_JOB = "wrong_job"
    SYNTHETIC_NOT_ALLOWED = "synthetic_not_allowed"
    UNKNOWN_SYNTHETIC_JOB = "unknown_synthetic_job"
    BAD_COUNTERSIGNATURE = "bad_countersignature"
    NOT_ACTIVE = "not_active"
    JAILED = "jailed"
    UNKNOWN_BATCH = "unknown_batch"
    BATCH_EXPIRED = "batch_expired"
    NOTHING_TO_SETTLE = "nothing_to_settle"
    INSUFFICIENT_STAKE = "insufficient_stake"
    TOO_MANY_UNBONDING = "too_many_unbonding"
    LEAVING_TOO_FAST = "leaving_too_fast"
    NOTHING_TO_WITHDRAW = "nothing_to_withdraw"
    BAD_KEY_PROOF = "bad_key_proof"
    TOO_MANY_ROTATIONS = "too_many_rotations"
    UNKNOWN_PARAM = "unknown_param"
    WRONG_UPDATE_NUMBER = "wrong_update_number"
    TOO_MANY_QUEUED = "too_many_queued"
    NOT_ENOUGH_APPROVALS = "not_enough_approvals"
    BAD_APPROVAL = "bad_approval"
    BAD_UPDATE = "bad_update"
    NO_CONFLICT = "no_conflict"
    BAD_EVIDENCE_SIGNATURE = "bad_evidence_signature"
    EVIDENCE_TOO_OLD = "evidence_too_old"
    UNKNOWN_VALIDATOR = "unknown_validator"
    ALREADY_PUNISHED = "already_punished"
    CALIBRATION_OVER = "calibration_over"
    WRONG_CALIBRATION = "wrong_calibration"
    ALREADY_CALIBRATED = "already_calibrated"

    # blocks, proofs, certificates
    WRONG_VERSION = "wrong_version"
    WRONG_CHAIN = "wrong_chain"
    WRONG_HEIGHT = "wrong_height"
    WRONG_PARENT = "wrong_parent"
    WRONG_PROPOSER = "wrong_proposer"
    BAD_TIMESTAMP = "bad_timestamp"
    ROOT_MISMATCH = "root_mismatch"
    BAD_PROOF = "bad_proof"
    BAD_CERTIFICATE = "bad_certificate"
    DUPLICATE_TRANSACTION = "duplicate_transaction"
    NOT_ENOUGH_WORK = "not_enough_work"
    EMPTY_BLOCK = "empty_block"
    INVALID_PARENT = "invalid_parent"
    BELOW_FINAL = "below_final"
    BAD_GENESIS = "bad_genesis"
    DAMAGED = "damaged"


class Rejected(Exception):
    """The one exception that bytes from a stranger can cause."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Failed(Exception):
    """A valid transaction that the state refuses; caught by execution, recorded in the outcome."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class Stops(Exception):
    """This node cannot go on, though nothing is wrong with the chain or the program; the message says what to do."""


class BrokenInvariant(Exception):
    """What only we can cause, found in the ledger: a node that meets it stops. Not an assertion, because `python -O`
    leaves those out."""
