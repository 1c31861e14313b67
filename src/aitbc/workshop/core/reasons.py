"""Why a text, a transaction or a block of a stranger was refused. docs/spec/workshop.md "Reasons"

The seed's protocol has no refusal: these are counted, logged, and told to our own command line only.
"""

from enum import StrEnum


class WorkshopReason(StrEnum):
    # texts
    BAD_TEXT = "bad_text"
    TEXT_TOO_LARGE = "text_too_large"
    BAD_PAYLOAD = "bad_payload"

    # transactions, by the rules of the chain
    BAD_SIGNATURE = "bad_signature"
    NEGATIVE_AMOUNT = "negative_amount"
    WRONG_NONCE = "wrong_nonce"
    LOW_BALANCE = "low_balance"

    # transactions, by what this node keeps and passes on
    UNUSUAL_KEY = "unusual_key"
    NONCE_TAKEN = "nonce_taken"
    NONCE_USED = "nonce_used"
    NONCE_TOO_FAR = "nonce_too_far"
    POOL_FULL = "pool_full"
    TOO_BUSY = "too_busy"

    # blocks
    NO_WORK = "no_work"
    WRONG_NUMBER = "wrong_number"
    TOO_MANY_TRANSACTIONS = "too_many_transactions"
    INVALID_PARENT = "invalid_parent"
    KNOWN_INVALID = "known_invalid"
    ORPHANS_FULL = "orphans_full"

    # searches
    UNASKED_ANSWER = "unasked_answer"
    WRONG_ANSWER = "wrong_answer"


class WorkshopFault(Exception):
    """Something that a stranger sent is not taken; whoever reads it catches this, counts it, and goes on."""

    def __init__(self, reason: WorkshopReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
