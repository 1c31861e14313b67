"""Why a job, a delivery or a message on the provider link was refused: the reasons of the market.

The ledger's reasons are in `core.types.reasons`; the two lists share no value. docs/spec/reasons.md
"""

from enum import StrEnum


class JobReason(StrEnum):
    """What hub and provider answer; each value is a problem code over HTTP and a reason on the link."""

    # asking for a quote
    BAD_REQUEST = "bad_request"
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_MODEL = "unknown_model"
    NO_PROVIDER = "no_provider"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_QUOTES = "too_many_quotes"
    QUEUE_FULL = "queue_full"
    CHAIN_UNREACHABLE = "chain_unreachable"
    INFEASIBLE = "infeasible"

    # asking with an account
    INVALID_API_KEY = "invalid_api_key"
    BAD_REQUEST_SIGNATURE = "bad_request_signature"
    REPLAYED = "replayed"
    PAYMENT_REQUIRED = "payment_required"
    BUDGET_EXCEEDED = "budget_exceeded"
    NO_SESSION = "no_session"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    CONTENT_POLICY = "content_policy"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    DEPOSIT_MISMATCH = "deposit_mismatch"
    UNKNOWN_API_KEY = "unknown_api_key"
    UNKNOWN_RECEIPT = "unknown_receipt"
    NOT_ADMIN = "not_admin"

    # starting a job on a lock
    UNKNOWN_JOB = "unknown_job"
    BAD_TOKEN = "bad_token"
    QUOTE_EXPIRED = "quote_expired"
    LOCK_NOT_FINAL = "lock_not_final"
    LOCK_FAILED = "lock_failed"
    LOCK_MISMATCH = "lock_mismatch"
    TOO_LATE = "too_late"
    NOT_DELIVERED = "not_delivered"
    TOO_MANY_FOLLOWERS = "too_many_followers"
    JOB_OVER = "job_over"

    # how a job or one of its attempts ended
    CANCELED = "canceled"
    PROVIDER_GONE = "provider_gone"
    PROVIDER_SILENT = "provider_silent"
    PROVIDER_REFUSED = "provider_refused"
    ENGINE_FAILED = "engine_failed"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE_MISSED = "deadline_missed"
    CLAIM_LAPSED = "claim_lapsed"
    CHECK_FAILED = "check_failed"
    CALIBRATION_FAILED = "calibration_failed"
    HEDGED = "hedged"
    HUB_RESTARTED = "hub_restarted"
    HUB_ERROR = "hub_error"

    # a delivery that does not match its offer
    WRONG_TASK = "wrong_task"
    FORGED_SIGNATURE = "forged_signature"
    DETAILS_MISMATCH = "details_mismatch"
    OUTPUT_HASH_MISMATCH = "output_hash_mismatch"
    OUTPUT_TOO_LARGE = "output_too_large"
    BAD_OUTPUT = "bad_output"
    COUNTS_MISMATCH = "counts_mismatch"
    UNITS_MISMATCH = "units_mismatch"
    UNITS_ABOVE_OFFER = "units_above_offer"
    PRICE_MISMATCH = "price_mismatch"
    STREAM_MISMATCH = "stream_mismatch"

    # messages on the provider link
    BAD_FRAME = "bad_frame"
    FRAME_TOO_LARGE = "frame_too_large"
    UNEXPECTED_MESSAGE = "unexpected_message"
    NOT_AUTHENTICATED = "not_authenticated"
    WRONG_NETWORK = "wrong_network"
    TOO_MANY_PROVIDERS = "too_many_providers"
    TOO_MANY_ERRORS = "too_many_errors"
    REPLACED = "replaced"
    BUSY = "busy"
    PRICE_TOO_LOW = "price_too_low"


class Refused(Exception):
    """A stranger asked for something that the market does not do; hub and provider answer with the reason."""

    def __init__(self, reason: JobReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
