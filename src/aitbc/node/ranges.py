"""What this node tells others of its chain by height: ends of epochs, headers, blocks. docs/spec/sync.md

Run where reading large parts of the disk may take a while.
"""

from aitbc.core.codec.wire import pack
from aitbc.core.peer.kinds import BLOCKS, ENDS, HEADERS, MAX_ENDS, Blocks, Ends, Headers
from aitbc.core.sync.answers import End
from aitbc.ports import Store, StoredHead

ROOM = 1_024
"""Bytes of an answer that are not what is listed."""
LOOKED_BACK = 64
"""Blocks from the head down, for one that has a certificate of its own."""


class _Sheet:
    """Fills an answer until it is full."""

    def __init__(self, limit: int) -> None:
        self._room = limit - ROOM
        self.rows: list[list[bytes]] = []

    def add(self, *row: bytes) -> bool:
        self._room -= sum(len(part) + 5 for part in row)
        if self._room < 0:
            return False
        self.rows.append(list(row))
        return True


def read_ends(store: Store, *, epoch: int, epoch_length: int, height: int) -> Ends:
    """Those of the epochs from `epoch` on, and the newest block of the running one with a certificate; `height`: of the
    head."""
    sheet = _Sheet(ENDS.answer_limit)
    last = (epoch + 1) * epoch_length
    while last <= height and len(sheet.rows) < MAX_ENDS - 1:
        head = store.head_at(last)
        if head is None or head.certificate is None or not sheet.add(pack(_end(store, head))):
            break
        last += epoch_length
    if height < last:
        lowest = max(last - epoch_length, height - LOOKED_BACK)
        for above in range(height, lowest, -1):
            head = store.head_at(above)
            if head is not None and head.certificate is not None:
                sheet.add(pack(End(head.header, head.certificate, [])))
                break
    return Ends([row[0] for row in sheet.rows])


def _end(store: Store, head: StoredHead) -> End:
    assert head.certificate is not None, "asked before"
    return End(head.header, head.certificate, store.validators(head.header.next_validators_hash) or [])


def read_headers(store: Store, *, start: int, count: int) -> Headers:
    sheet = _Sheet(HEADERS.answer_limit)
    for height in range(start, start + count):
        head = store.head_at(height)
        if head is None:
            break
        if not sheet.add(pack(head.header), pack(head.certificate) if head.certificate else b""):
            break
    return Headers([row[0] for row in sheet.rows], [row[1] for row in sheet.rows])


def read_blocks(store: Store, *, start: int, count: int) -> Blocks:
    sheet = _Sheet(BLOCKS.answer_limit)
    for height in range(start, start + count):
        block = store.block_by_height(height)
        if block is None or not sheet.add(pack(block.block)):
            break
    return Blocks([row[0] for row in sheet.rows])
