"""Every kind of message that a workshop node reads, how large and how often. docs/spec/workshop.md "Kinds"

The seed bounds nothing and answers no unknown kind, so our own kinds can be asked of anybody.
"""

import msgspec

from aitbc.core.peer.kinds import Rate
from aitbc.workshop.core.texts import MAX_BLOCK_TEXT

ID_BYTES = 16
MAX_PAYLOAD = MAX_BLOCK_TEXT + 2 * ID_BYTES
MAX_TRANSACTION_TEXT = 2_048
"""Five times one between compressed keys."""
MAX_ANCESTORS = 64
MAX_ANCESTORS_BYTES = 256 * 1024


class Kind(msgspec.Struct, frozen=True):
    name: bytes
    limit: int
    """Bytes of payload."""
    rate: Rate
    """Of one connection; what comes faster is not read."""
    asks: bool = False
    """Sent as a request, and answered."""
    answer_limit: int = 0
    before_hello: bool = False


HELLO = Kind(b"p2p:hello", 80, Rate(2, 8), True, 65_536, True)
GET_PEERS = Kind(b"p2p:get_peers", 80, Rate(5, 20), True, 65_536, True)
NEW_TX = Kind(b"gossip:bc:new_tx", ID_BYTES + MAX_TRANSACTION_TEXT, Rate(50, 400))
NEW_BLOCK = Kind(b"gossip:bc:new_block", ID_BYTES + MAX_BLOCK_TEXT, Rate(20, 200))
SEARCH = Kind(b"gossip:search:block", 128, Rate(200, 1_000))
FOUND = Kind(b"search_response:block", ID_BYTES + MAX_BLOCK_TEXT, Rate(200, 1_000))

# Ours: nobody else answers them, and nobody minds.

ANCESTORS = Kind(b"aitbc:ancestors", 32, Rate(10, 40), True, MAX_ANCESTORS_BYTES + MAX_BLOCK_TEXT, True)
"""A block hash, or nothing for the tip; answered with texts, that block first, then parent by parent, a line each."""
SUBMIT = Kind(b"aitbc:submit", MAX_TRANSACTION_TEXT, Rate(20, 100), True, 1_024, True)
"""A transaction text; answered with nothing when it was taken, else with the reason."""
ACCOUNT = Kind(b"aitbc:account", 64, Rate(50, 200), True, 1_024, True)
"""Key bytes; answered in JSON."""
STATUS = Kind(b"aitbc:status", 16, Rate(20, 100), True, 16_384, True)
"""Nothing; answered in JSON."""

KINDS = {
    kind.name: kind
    for kind in (
        HELLO,
        GET_PEERS,
        NEW_TX,
        NEW_BLOCK,
        SEARCH,
        FOUND,
        ANCESTORS,
        SUBMIT,
        ACCOUNT,
        STATUS,
    )
}

ALL_KINDS = Rate(1_000, 4_000)
"""Messages of one connection, known or not."""
ALL_BYTES = Rate(2 * 1024 * 1024, 8 * 1024 * 1024)
NOTES = Rate(5, 100)
"""Lines of log that strangers can cause; more are only counted, so nobody fills a disk."""
MAX_NOTE = 300
CHECKS = Rate(400, 1_000)
"""Signatures looked at for all strangers together: a tenth of a core."""
