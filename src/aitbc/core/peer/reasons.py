"""Why a peer, a frame or a message was refused: the reasons of the network. docs/spec/p2p.md "Reasons"

They never reach the ledger: a node that refuses a peer and one that does not still agree on every block.
"""

from enum import StrEnum


class PeerReason(StrEnum):
    """What a node tells a peer when it refuses or leaves it, and counts by name."""

    # encrypted channel
    BAD_HANDSHAKE_LENGTH = "bad_handshake_length"
    BAD_KEY = "bad_key"
    DECRYPTION_FAILED = "decryption_failed"
    NONCES_EXHAUSTED = "nonces_exhausted"
    EMPTY_RECORD = "empty_record"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    WRONG_PEER = "wrong_peer"
    SELF = "self"

    # frames
    BAD_FRAME = "bad_frame"
    FRAME_TOO_LARGE = "frame_too_large"
    SLOW_FRAME = "slow_frame"
    BUFFERS_FULL = "buffers_full"

    # messages
    UNKNOWN_KIND = "unknown_kind"
    NOT_INTRODUCED = "not_introduced"
    NOT_A_REQUEST = "not_a_request"
    NOT_ANSWERABLE = "not_answerable"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    BAD_PAYLOAD = "bad_payload"
    RATE_EXCEEDED = "rate_exceeded"
    UNSOLICITED_ANSWER = "unsolicited_answer"
    LATE_ANSWER = "late_answer"
    NO_ANSWER = "no_answer"
    UNAVAILABLE = "unavailable"
    TOO_MANY_REQUESTS = "too_many_requests"
    SELF_LIMITED = "self_limited"

    # peering
    NO_COMMON_VERSION = "no_common_version"
    OTHER_SETTINGS = "other_settings"
    CLOCK_SKEW = "clock_skew"
    FULL = "full"
    DISCOVERY_ONLY = "discovery_only"
    BANNED = "banned"
    DUPLICATE = "duplicate"
    SECOND_HELLO = "second_hello"
    HELLO_TIMEOUT = "hello_timeout"
    REFUSED = "refused"
    PRUNED = "pruned"
    FEELER = "feeler"
    IDLE = "idle"
    SLOW_PEER = "slow_peer"
    LEAVING = "leaving"

    # sockets
    TOO_MANY_SOCKETS = "too_many_sockets"
    HALF_OPEN = "half_open"
    DIAL_FAILED = "dial_failed"
    LOST = "lost"

    # what was said
    INVALID = "invalid"
    DUPLICATE_GOSSIP = "duplicate_gossip"


class PeerFault(Exception):
    """A stranger did what the protocol does not allow; whoever reads its bytes catches it, counts it, and goes on."""

    def __init__(self, reason: PeerReason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
