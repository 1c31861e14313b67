"""The state: records by store and key, their trees, and an overlay that a block's transactions write to.

One executor owns the trees. Records change only in `publish`, so a reader on the host's thread always sees a whole
block.
"""

from collections.abc import Iterable, Mapping

from aitbc.core.codec.records import record_bytes
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.indexed_tree import IndexedTree, TreeProof
from aitbc.core.ledger.params import Params, params_from_texts
from aitbc.core.types.amounts import MAX_TOTAL
from aitbc.core.types.reasons import BrokenInvariant
from aitbc.core.types.records import (
    STORES,
    Account,
    Change,
    Lock,
    Param,
    ReceiptRecord,
    Record,
    Registration,
    ValidatorRecord,
)

NEW_ACCOUNT = Account(0, 0, b"")
Key = tuple[str, str]
"""(store, key)."""

SUPPLY_SOURCES = ("genesis", "minted", "faucet", "rewards")
SUPPLY_SINK = "burned"


class State:
    """Everything the chain remembers at its head."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Record]] = {store: {} for store in STORES}
        self._trees = {store: IndexedTree(store) for store in STORES}
        self.params = Params()

    def get(self, store: str, key: str) -> Record | None:
        return self.records[store].get(key)

    def restore(self, store: str, key: str, record: Record, data: bytes) -> None:
        """Put a stored record back, in index order; used when a node starts."""
        self.records[store][key] = record
        self._trees[store].put(key.encode(), data)

    def stage(self, writes: Mapping[Key, Record]) -> tuple[list[Change], bytes]:
        """Put a block's writes into the trees; returns the changes and the new state root.

        New keys take their index in (store, key) order, whatever order execution touched them in.
        """
        order = {store: position for position, store in enumerate(STORES)}
        changes = []
        for (store, key), record in sorted(writes.items(), key=lambda item: (order[item[0][0]], item[0][1])):
            data = record_bytes(record)
            index = self._trees[store].put(key.encode(), data)
            changes.append(Change(store, index, key, record, data))
        return changes, self.root()

    def publish(self, changes: Iterable[Change]) -> None:
        """Make staged changes visible to readers."""
        params_changed = False
        for change in changes:
            self.records[change.store][change.key] = change.record
            params_changed = params_changed or change.store == "params"
        if params_changed:
            self.refresh_params()

    def refresh_params(self) -> None:
        texts = {
            key: record.value for key, record in self.records["params"].items() if isinstance(record, Param)
        }
        self.params = params_from_texts(texts)

    def root(self) -> bytes:
        """`state_root`: the roots of the stores in their fixed order."""
        return tagged("aitbc/state/1", *[self._trees[store].root() for store in STORES])

    def index_of(self, store: str, key: str) -> int:
        """Place of a record in its store's tree; 0 for a key that is not there."""
        return self._trees[store].index_of(key.encode()) or 0

    def store_roots(self) -> dict[str, bytes]:
        return {store: self._trees[store].root() for store in STORES}

    def prove(self, store: str, key: str) -> TreeProof:
        return self._trees[store].prove(key.encode())


class Overlay:
    """Writes on top of a state, with marks to go back to when a transaction fails."""

    def __init__(self, base: State) -> None:
        self.base = base
        self.writes: dict[Key, Record] = {}
        self._journal: list[tuple[Key, Record | None]] = []

    def get(self, store: str, key: str) -> Record | None:
        found = self.writes.get((store, key))
        return found if found is not None else self.base.get(store, key)

    def put(self, store: str, key: str, record: Record) -> None:
        self._journal.append(((store, key), self.writes.get((store, key))))
        self.writes[store, key] = record

    def mark(self) -> int:
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        """Forget every write since `mark`."""
        while len(self._journal) > mark:
            key, before = self._journal.pop()
            if before is None:
                del self.writes[key]
            else:
                self.writes[key] = before

    def account(self, address: str) -> Account:
        record = self.get("accounts", address)
        assert record is None or isinstance(record, Account)
        return record or NEW_ACCOUNT

    def lock(self, key: str) -> Lock | None:
        record = self.get("locks", key)
        assert record is None or isinstance(record, Lock)
        return record

    def receipt(self, receipt_id: str) -> ReceiptRecord | None:
        record = self.get("receipts", receipt_id)
        assert record is None or isinstance(record, ReceiptRecord)
        return record

    def registration(self, role: str, address: str) -> Registration | None:
        record = self.get("registry", f"{role}:{address}")
        assert record is None or isinstance(record, Registration)
        return record

    def credit(self, address: str, amount: int) -> None:
        """Add to a balance; the supply bound makes an overflow our own fault."""
        account = self.account(address)
        assert amount >= 0 and account.balance + amount <= MAX_TOTAL, "a balance stays below 2^63"
        if amount:
            self.put("accounts", address, Account(account.balance + amount, account.nonce, account.auth))

    def debit(self, address: str, amount: int) -> None:
        """Take from a balance that the caller has checked."""
        account = self.account(address)
        assert 0 <= amount <= account.balance, "nobody spends what they do not have"
        self.put("accounts", address, Account(account.balance - amount, account.nonce, account.auth))

    def supply(self, name: str) -> int:
        record = self.get("params", f"supply.{name}")
        return int(record.value) if isinstance(record, Param) else 0

    def add_supply(self, name: str, amount: int) -> None:
        """Count coins that came into being or were burned."""
        self.put("params", f"supply.{name}", Param(value=str(self.supply(name) + amount)))

    def total_supply(self) -> int:
        return sum(self.supply(name) for name in SUPPLY_SOURCES) - self.supply(SUPPLY_SINK)


def held_by(record: Record | None) -> int:
    """Coins that a record holds."""
    match record:
        case Account():
            return record.balance
        case Lock() if record.status == "open":
            return record.amount - record.paid
        case None | Lock() | ReceiptRecord() | Registration() | ValidatorRecord() | Param():
            return 0


def check_supply(overlay: Overlay) -> None:
    """Stop at a block that makes or loses a coin: supply = genesis + minted + faucet + rewards − burned."""
    held = sum(held_by(record) - held_by(overlay.base.get(*key)) for key, record in overlay.writes.items())
    before = Overlay(overlay.base).total_supply()
    counted = overlay.total_supply() - before
    if held != counted:
        raise BrokenInvariant(
            f"coins are conserved: {held} base units more are held, {counted} more are counted"
        )
    if overlay.total_supply() > MAX_TOTAL:
        raise BrokenInvariant(f"the supply stays below 2^63: it would be {overlay.total_supply()} base units")


def check_whole_supply(state: State) -> None:
    """The same over the whole state; used at start and in tests because it visits every record."""
    held = sum(held_by(record) for store in ("accounts", "locks") for record in state.records[store].values())
    counted = Overlay(state).total_supply()
    if held != counted:
        raise BrokenInvariant(
            f"what is held equals the supply: {held} base units are held, {counted} counted"
        )
