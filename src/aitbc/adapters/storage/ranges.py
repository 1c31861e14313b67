"""What a store tells other nodes of its chain by height: ends of epochs, headers, blocks. docs/spec/sync.md

Run where reading large parts of the disk may take a while.
"""

from aitbc.core.codec.wire import pack
from aitbc.core.peer.kinds import BLOCKS, ENDS, HEADERS, MAX_ENDS, MAX_STEP, Blocks, Ends, Headers
from aitbc.core.sync.answers import End
from aitbc.ports import Store, StoredHead

ROOM = 1_024
"""Bytes of an answer that are not what is listed."""
LOOKED_BACK = 256
"""Blocks that are looked at for one that has a certificate of its own: a node keeps one of each 48 at least."""


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


def read_ends(store: Store, *, above: int, epoch_length: int, height: int) -> Ends:
    """Blocks with a certificate, from step to step and at each end of an epoch, up to the newest; `height`: of the
    head."""
    sheet = _Sheet(ENDS.answer_limit)
    while above < height and len(sheet.rows) < MAX_ENDS:
        last = (above // epoch_length + 1) * epoch_length
        head = _certified(store, above, min(last, above + MAX_STEP, height))
        if head is None or not sheet.add(pack(_end(store, head, is_last=head.header.height == last))):
            break
        above = head.header.height
    return Ends([row[0] for row in sheet.rows])


def _certified(store: Store, above: int, highest: int) -> StoredHead | None:
    """The highest with a certificate of its own."""
    for height in range(highest, max(above, highest - LOOKED_BACK), -1):
        head = store.head_at(height)
        if head is not None and head.certificate is not None:
            return head
    return None


def _end(store: Store, head: StoredHead, *, is_last: bool) -> End:
    assert head.certificate is not None, "looked for"
    voters = store.validators(head.header.next_validators_hash) if is_last else None
    return End(head.header, head.certificate, voters or [])


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
