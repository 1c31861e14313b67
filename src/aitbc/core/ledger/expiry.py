"""When records leave the state: by the age of what they are, in block time. docs/spec/state.md

The lists here follow from the records, so they are rebuilt when a node starts and no root covers them.
"""

from typing import Literal

from sortedcontainers import SortedList

from aitbc.core.types.records import Batch, Lock, Offence, ReceiptRecord, Record

Age = Literal["lock", "receipt", "dated"]
"""`lock`: since its close, or since its claim time while it is open; `receipt`: since its claim; `dated`: the record
names its end."""


class Expiry:
    """Records in the order in which their time comes."""

    STORES = ("receipts", "locks", "registry")

    def __init__(self) -> None:
        self._ages: dict[Age, SortedList[tuple[int, str, str]]] = {
            "lock": SortedList(),
            "receipt": SortedList(),
            "dated": SortedList(),
        }

    def replace(self, store: str, key: str, old: Record | None, new: Record | None) -> None:
        """Note that a record changed, came (`old` None) or went (`new` None)."""
        before, after = _since(old), _since(new)
        if before == after:
            return
        if before is not None:
            self._ages[before[0]].remove((before[1], store, key))
        if after is not None:
            self._ages[after[0]].add((after[1], store, key))

    def until(self, age: Age, time_ms: int, limit: int) -> list[tuple[str, str]]:
        """(store, key) of the records whose age counts from before `time_ms`, the oldest first."""
        found = []
        for since_ms, store, key in self._ages[age].islice(0, limit):
            if since_ms >= time_ms:
                break
            found.append((store, key))
        return found


def _since(record: Record | None) -> tuple[Age, int] | None:
    """Which clock a record's age runs on and since when; None: it stays."""
    match record:
        case Lock(status="open"):
            return "lock", record.claim_until_ms
        case Lock(closed_ms=closed_ms) if closed_ms:
            return "lock", closed_ms
        case ReceiptRecord(claimed_ms=claimed_ms) if claimed_ms:
            return "receipt", claimed_ms
        case Batch() | Offence():
            return ("dated", record.expires_ms) if record.expires_ms else None
        case _:
            return None
