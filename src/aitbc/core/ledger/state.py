"""The state: record bytes by store and key, their trees, and an overlay that a block's transactions write to.

Readers see the *head*: the newest committed block. The trees are ahead of it by the blocks that were *staged*, that
is executed and not committed yet; `publish` moves the head over the oldest of them, `unstage` takes the newest back,
`retract` takes the head itself back. Where branches compete the trees may also go below the head (`step_back`) while
another branch is staged: readers see the old head until `publish_back`, or never notice (`step_forward`). Staging and
stepping may run on a worker thread, publishing runs on the reader's.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Protocol

import msgspec
from sortedcontainers import SortedList

from aitbc.core.codec.records import record_bytes, record_from_bytes
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.indexed_tree import IndexedTree, TreeProof, TreeUndo
from aitbc.core.ledger.expiry import Expiry
from aitbc.core.ledger.params import Params, params_from_texts
from aitbc.core.types.amounts import MAX_TOTAL
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.core.types.records import (
    STORES,
    Account,
    Batch,
    Bond,
    Change,
    KeyHistory,
    Lock,
    Offence,
    PaidReceipt,
    Param,
    ReceiptRecord,
    Record,
    Registration,
    Role,
    Score,
    ValidatorRecord,
)

NEW_ACCOUNT = Account(0, 0, b"")
MAX_JOURNAL = 64
"""Published blocks whose changes stay in memory: how far `retract` and proofs of older heights reach."""
MAX_JOURNAL_CHANGES = 200_000
"""Changed records of all of them, about 150 MB: after full blocks it reaches less far, and going back further means to
load the state from the store. The newest block always stays."""

SUPPLY_SOURCES = ("genesis", "minted", "faucet", "rewards")
SUPPLY_SINK = "burned"

Writes = Mapping[str, Mapping[str, Record | None]]
"""Store → key → record; None: removed."""


class Base(Protocol):
    """What an overlay stands on."""

    expiry: Expiry

    def get(self, store: str, key: str) -> Record | None: ...

    def items(self, store: str, prefix: str = "") -> list[tuple[str, Record]]:
        """Every record of a store whose key has a prefix, in key order."""
        ...


class Staged(msgspec.Struct, frozen=True):
    """A block's effect on the state: in the trees, not visible to readers before it is published."""

    changes: list[Change]
    before: dict[tuple[str, str], bytes | None]
    """(store, key) → bytes before the block; None: not there."""
    after: dict[tuple[str, str], bytes | None]
    trees: dict[str, TreeUndo]
    root: bytes
    """`state_root` with this block."""
    params: Params


class State:
    """Everything the chain remembers."""

    def __init__(self) -> None:
        self.data: dict[str, dict[str, bytes]] = {store: {} for store in STORES}
        """At the head."""
        self.params = Params()
        """At the head."""
        self.expiry = Expiry()
        """At the tip, like the trees."""
        self._trees = {store: IndexedTree(store) for store in STORES}
        self._registered: SortedList[str] = SortedList()
        """Keys of the registry at the head."""
        self._staged: tuple[Staged, ...] = ()
        """The oldest first."""
        self._journal: tuple[Staged, ...] = ()
        """Blocks up to the head, the oldest first."""
        self._back: tuple[Staged, ...] = ()
        """Blocks that the tip has left and the head has not, the newest first."""
        self._back_params = self.params
        """At the block below them."""

    def load(self, records: Mapping[str, Sequence[tuple[int, str, bytes]]]) -> None:
        """Fill an empty state from stored (slot, key, bytes), in slot order; raises Rejected for what cannot be."""
        for store, rows in records.items():
            try:
                self._trees[store].load(rows)
            except ValueError as error:
                raise Rejected(Reason.DAMAGED, str(error)) from None
            self.data[store] = {key: data for _, key, data in rows}
            if store in Expiry.STORES:
                for _, key, data in rows:
                    self.expiry.replace(store, key, None, record_from_bytes(store, key, data))
        self._registered = SortedList(self.data["registry"])
        self.params = self._read_params(self.data["params"])

    # Reading the head

    def get(self, store: str, key: str) -> Record | None:
        data = self.data[store].get(key)
        return None if data is None else record_from_bytes(store, key, data)

    def account(self, address: str) -> Account:
        record = self.get("accounts", address)
        assert record is None or isinstance(record, Account)
        return record or NEW_ACCOUNT

    def items(self, store: str, prefix: str = "") -> list[tuple[str, Record]]:
        """Records of a store at the head, in key order; visits the whole store."""
        keys = sorted([key for key in self.data[store] if key.startswith(prefix)])
        return [(key, record_from_bytes(store, key, self.data[store][key])) for key in keys]

    def registry_page(self, prefix: str, *, after: str, limit: int) -> list[str]:
        """Keys of the registry with a prefix, in order, from the first above `after`."""
        keys: list[str] = list(islice(self._registered.irange(after, inclusive=(False, False)), limit))
        return [key for key in keys if key.startswith(prefix)]

    # Reading the tip

    def tip(self) -> "Tip":
        return Tip(self)

    @property
    def tip_params(self) -> Params:
        if self._staged:
            return self._staged[-1].params
        return self._back_params if self._back else self.params

    def tip_data(self, store: str, key: str) -> bytes | None:
        """A record's bytes as the newest staged block left them."""
        if self._staged:
            for staged in reversed(self._staged):
                if (store, key) in staged.after:
                    return staged.after[store, key]
        for undone in reversed(self._back):
            if (store, key) in undone.before:
                return undone.before[store, key]
        return self.data[store].get(key)

    def tip_keys(self, store: str, prefix: str) -> list[str]:
        return self._trees[store].keys(prefix)

    def root(self) -> bytes:
        """`state_root` at the tip: the roots of the stores in their fixed order."""
        return root_of_stores(self.store_roots())

    def index_of(self, store: str, key: str) -> int:
        """Slot of a record in its store's tree; 0 for a key that is not there."""
        return self._trees[store].index_of(key) or 0

    def store_roots(self) -> dict[str, bytes]:
        return {store: self._trees[store].root() for store in STORES}

    # Changing

    def stage(self, writes: Writes) -> Staged:
        """Put a block's writes into the trees, on top of what is staged already."""
        changes: list[Change] = []
        trees: dict[str, TreeUndo] = {}
        before: dict[tuple[str, str], bytes | None] = {}
        after: dict[tuple[str, str], bytes | None] = {}
        for store in STORES:
            written = writes.get(store)
            if not written:
                continue
            data = {key: None if record is None else record_bytes(record) for key, record in written.items()}
            tree = self._trees[store]
            leaving = {key: tree.index_of(key) for key, value in data.items() if value is None}
            trees[store] = tree.update(data, partial(self._tip_value, store))
            for key in sorted(written):
                value, old = data[key], self.tip_data(store, key)
                if value is None and old is None:
                    continue  # made and removed by the same block
                index = leaving[key] if value is None else tree.index_of(key)
                assert index, "a record that is or was there has a slot"
                changes.append(
                    Change(
                        store=store,
                        key=key,
                        index=index,
                        record=written[key],
                        data=value or b"",
                        before=old,
                    )
                )
                before[store, key], after[store, key] = old, value
        params = self._params_after(after) if writes.get("params") else self.tip_params
        staged = Staged(changes, before, after, trees, self.root(), params)
        self._move_expiry(staged)
        self._staged = (*self._staged, staged)
        return staged

    def unstage(self) -> None:
        """Take back the newest staged block."""
        staged = self._staged[-1]
        self._staged = self._staged[:-1]
        self._undo(staged)

    def publish(self) -> None:
        """Readers see the oldest staged block from here on."""
        staged = self._staged[0]
        for change in staged.changes:
            self._set(change, change.data if change.record is not None else None)
        self.params = staged.params
        self._journal = _bounded((*self._journal[-MAX_JOURNAL + 1 :], staged))
        self._staged = self._staged[1:]

    def forget_journal(self) -> None:
        """Make the head the beginning: nothing before it can be retracted or proved."""
        self._journal = ()

    @property
    def depth(self) -> int:
        """How many published blocks can be retracted."""
        return len(self._journal)

    def retract(self) -> None:
        """Take the head back; nothing may be staged on it."""
        if self._staged or not self._journal:
            raise BrokenInvariant("only a head with a journal and nothing on top of it is taken back")
        staged = self._journal[-1]
        self._undo(staged)
        for change in staged.changes:
            self._set(change, change.before)
        self._journal = self._journal[:-1]
        self.params = self._read_params(self.data["params"])

    # Another branch, while readers still see the head

    def step_back(self) -> None:
        """Take the tip one block below where it is, the head at first; nothing may be staged."""
        if self._staged or not self._journal:
            raise BrokenInvariant("only a tip with a journal and nothing on top of it goes back")
        undone = self._journal[-1]
        params = self.tip_params
        self._journal = self._journal[:-1]
        self._undo(undone)
        self._back = (*self._back, undone)
        self._back_params = self._params_after({}) if "params" in undone.trees else params

    def step_forward(self) -> None:
        """Take the tip back to the head; nothing may be staged."""
        assert not self._staged, "what was staged below the head is given up first"
        for undone in reversed(self._back):
            writes: dict[str, dict[str, Record | None]] = {}
            for change in undone.changes:
                writes.setdefault(change.store, {})[change.key] = change.record
            if self.stage(writes).root != undone.root:
                raise BrokenInvariant("a block that is put on the state again gives another state")
        self._journal = (*self._journal, *self._staged)
        self._staged = self._back = ()

    def publish_back(self) -> None:
        """Readers see the block below those that the tip has left; what is staged is published next."""
        for undone in self._back:
            for change in undone.changes:
                self._set(change, change.before)
        if self._back:
            self._back, self.params = (), self._back_params

    def _set(self, change: Change, value: bytes | None) -> None:
        """A record at the head."""
        data, key = self.data[change.store], change.key
        if change.store == "registry" and (key in data) != (value is not None):
            (self._registered.remove if value is None else self._registered.add)(key)
        if value is None:
            del data[key]
        else:
            data[key] = value

    def _undo(self, staged: Staged) -> None:
        for store, undo in staged.trees.items():
            self._trees[store].undo(undo)
        self._move_expiry(staged, back=True)

    def _move_expiry(self, staged: Staged, *, back: bool = False) -> None:
        for change in staged.changes:
            if change.store in Expiry.STORES:
                old = change.before and record_from_bytes(change.store, change.key, change.before)
                new = change.record
                self.expiry.replace(
                    change.store, change.key, *((new, old or None) if back else (old or None, new))
                )

    def _tip_value(self, store: str, key: str) -> bytes:
        value = self.tip_data(store, key)
        assert value is not None, "the tree asks for keys that are there"
        return value

    def _params_after(self, after: Mapping[tuple[str, str], bytes | None]) -> Params:
        data = {key: self.tip_data("params", key) for key in self.tip_keys("params", "")}
        data.update({key: value for (store, key), value in after.items() if store == "params"})
        return self._read_params({key: value for key, value in data.items() if value is not None})

    @staticmethod
    def _read_params(data: Mapping[str, bytes]) -> Params:
        texts = {}
        for key, value in data.items():
            record = record_from_bytes("params", key, value)
            assert isinstance(record, Param)
            texts[key] = record.value
        return params_from_texts(texts)

    def get_before(self, store: str, key: str, *, back: int) -> Record | None:
        """A record in the state `back` blocks before the head; Rejected when the journal does not reach so far."""
        journal = self._journal
        if not 0 <= back <= len(journal):
            raise Rejected(Reason.OUT_OF_RANGE, f"states reach {len(journal)} blocks back, not {back}")
        for staged in journal[len(journal) - back :]:
            if (store, key) in staged.before:
                data = staged.before[store, key]
                return None if data is None else record_from_bytes(store, key, data)
        return self.get(store, key)

    # Proving

    def prove(self, store: str, key: str, *, back: int = 0) -> tuple[TreeProof, dict[str, bytes]]:
        """Proof in the state `back` blocks before the head, and the roots of all stores there.

        Rejected when the journal does not reach so far. `publish` may run meanwhile: a block that it moves between the
        two reads is in both, which changes nothing, and whoever asks compares the roots with a header's.
        """
        staged, journal = self._staged, self._journal
        if not 0 <= back <= len(journal):
            raise Rejected(
                Reason.OUT_OF_RANGE,
                f"proofs reach {len(journal)} blocks back, not {back}; older states are not kept",
            )
        since = (*journal[len(journal) - back :], *staged)

        def value(name: str) -> bytes:
            for block in since:
                if (store, name) in block.before:
                    then = block.before[store, name]
                    assert then is not None, "a proof asks for keys that were there"
                    return then
            return self.data[store][name]

        undos = {name: [block.trees[name] for block in since if name in block.trees] for name in STORES}
        proof = self._trees[store].prove(key, value, undos[store])
        return proof, {name: self._trees[name].root_before(undos[name]) for name in STORES}


def root_of_stores(roots: Mapping[str, bytes]) -> bytes:
    """`state_root` from the roots of the stores."""
    return tagged("aitbc/state/1", *[roots[store] for store in STORES])


def _bounded(journal: tuple[Staged, ...]) -> tuple[Staged, ...]:
    """Without the oldest blocks that are too much together."""
    changes = sum([len(staged.changes) for staged in journal])
    first = 0
    while changes > MAX_JOURNAL_CHANGES and first < len(journal) - 1:
        changes -= len(journal[first].changes)
        first += 1
    return journal[first:]


class Tip:
    """The state with everything that is staged: what the next block executes on."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.params = state.tip_params
        self.expiry = state.expiry

    def get(self, store: str, key: str) -> Record | None:
        data = self._state.tip_data(store, key)
        return None if data is None else record_from_bytes(store, key, data)

    def items(self, store: str, prefix: str = "") -> list[tuple[str, Record]]:
        found = []
        for key in self._state.tip_keys(store, prefix):
            record = self.get(store, key)
            assert record is not None, "the tree knows which keys are there"
            found.append((key, record))
        return found


class _Missing:
    pass


_MISSING = _Missing()


class Overlay:
    """Writes on top of a state, with marks to go back to when a transaction fails."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.expiry = base.expiry
        self.position = 0
        """Of the transaction that is executing, in its block."""
        self.writes: dict[str, dict[str, Record | None]] = {store: {} for store in STORES}
        self.receipts: list[PaidReceipt] = []
        """Receipts paid so far, for the history."""
        self._journal: list[tuple[dict[str, Record | None], str, Record | _Missing | None]] = []
        self._read: dict[str, dict[str, Record | None]] = {store: {} for store in STORES}
        """What the base has said, so that a record is decoded once."""

    def get(self, store: str, key: str) -> Record | None:
        writes = self.writes[store]
        if key in writes:
            return writes[key]
        return self.before(store, key)

    def before(self, store: str, key: str) -> Record | None:
        """What the base says of a key."""
        read = self._read[store]
        if key not in read:
            read[key] = self.base.get(store, key)
        return read[key]

    def put(self, store: str, key: str, record: Record | None) -> None:
        writes = self.writes[store]
        self._journal.append((writes, key, writes.get(key, _MISSING)))
        writes[key] = record

    def items(self, store: str, prefix: str = "") -> list[tuple[str, Record]]:
        """Records whose key has a prefix, in key order."""
        found: dict[str, Record | None] = dict(self.base.items(store, prefix))
        found.update({key: record for key, record in self.writes[store].items() if key.startswith(prefix)})
        return [(key, record) for key, record in sorted(found.items()) if record is not None]

    def remove(self, store: str, key: str) -> None:
        self.put(store, key, None)

    def mark(self) -> tuple[int, int]:
        return len(self._journal), len(self.receipts)

    def rollback(self, mark: tuple[int, int]) -> None:
        """Forget every write since `mark`."""
        journal, receipts = mark
        while len(self._journal) > journal:
            writes, key, before = self._journal.pop()
            if isinstance(before, _Missing):
                del writes[key]
            else:
                writes[key] = before
        del self.receipts[receipts:]

    # What the stores hold, by its type

    def account(self, address: str) -> Account:
        record = self.writes["accounts"].get(address) or self.before("accounts", address)
        return record or NEW_ACCOUNT  # type: ignore[return-value]

    def lock(self, key: str) -> Lock | None:
        record = self.get("locks", key)
        assert record is None or isinstance(record, Lock)
        return record

    def receipt(self, receipt_id: str) -> ReceiptRecord | None:
        record = self.get("receipts", receipt_id)
        assert record is None or isinstance(record, ReceiptRecord)
        return record

    def batch(self, tx_id: str) -> Batch | None:
        record = self.get("receipts", f"batch:{tx_id}")
        assert record is None or isinstance(record, Batch)
        return record

    def registration(self, role: str, address: str) -> Registration | None:
        record = self.get("registry", f"{role}:{address}")
        assert record is None or isinstance(record, Registration)
        return record

    def bond(self, role: Role, address: str) -> Bond:
        """What stands behind an address; an empty bond when nothing does."""
        record = self.get("registry", f"bond:{role}:{address}")
        assert record is None or isinstance(record, Bond)
        return record or Bond(amount=0, unbonding=[], jailed_until_ms=0, epoch=0, minted=0)

    def put_bond(self, role: Role, address: str, bond: Bond) -> None:
        self.put("registry", f"bond:{role}:{address}", bond)

    def key_history(self, address: str) -> KeyHistory | None:
        record = self.get("registry", f"keys:{address}")
        assert record is None or isinstance(record, KeyHistory)
        return record

    def score(self, validator: str) -> Score:
        record = self.get("validators", f"score:{validator}")
        assert record is None or isinstance(record, Score)
        return record or Score(score=0, units=0)

    def number(self, name: str) -> int:
        """A counter among the parameters; 0 until it is first written."""
        record = self.get("params", name)
        return int(record.value) if isinstance(record, Param) else 0

    def set_number(self, name: str, value: int) -> None:
        self.put("params", name, Param(value=str(value)))

    # Coins

    def credit(self, address: str, amount: int) -> None:
        """Add to a balance; the supply bound makes an overflow our own fault."""
        account = self.account(address)
        balance = account.balance + amount
        if amount < 0 or balance > MAX_TOTAL:
            raise BrokenInvariant(f"a balance stays below 2^63: {address} would have {balance}")
        if amount:
            self.put("accounts", address, Account(balance, account.nonce, account.auth))

    def debit(self, address: str, amount: int) -> None:
        """Take from a balance that the caller has checked."""
        account = self.account(address)
        if not 0 <= amount <= account.balance:
            raise BrokenInvariant(f"nobody spends what they do not have: {amount} of {account.balance}")
        self.put("accounts", address, Account(account.balance - amount, account.nonce, account.auth))

    def supply(self, name: str) -> int:
        return self.number(f"supply.{name}")

    def add_supply(self, name: str, amount: int) -> None:
        """Count coins that came into being or were burned."""
        self.set_number(f"supply.{name}", self.supply(name) + amount)

    def total_supply(self) -> int:
        return sum(self.supply(name) for name in SUPPLY_SOURCES) - self.supply(SUPPLY_SINK)


def held_by(record: Record | None) -> int:
    """Coins that a record holds."""
    if type(record) is Account:
        return record.balance
    match record:
        case Lock() if record.status == "open":
            return record.amount - record.paid
        case Bond():
            return record.amount + sum(part.amount for part in record.unbonding)
        case (
            None
            | Account()
            | Lock()
            | ReceiptRecord()
            | Batch()
            | Registration()
            | KeyHistory()
            | Offence()
            | ValidatorRecord()
            | Score()
            | Param()
        ):
            return 0


COIN_STORES = ("accounts", "locks", "registry")
"""Stores whose records can hold coins."""


def check_supply(overlay: Overlay) -> None:
    """Stop at a block that makes or loses a coin: supply = genesis + minted + faucet + rewards − burned."""
    held = sum(
        held_by(record) - held_by(overlay.before(store, key))
        for store in COIN_STORES
        for key, record in overlay.writes[store].items()
    )
    before = Overlay(overlay.base).total_supply()
    after = overlay.total_supply()
    if held != after - before:
        raise BrokenInvariant(
            f"coins are conserved: {held} base units more are held, {after - before} more are counted"
        )
    if after > MAX_TOTAL:
        raise BrokenInvariant(f"the supply stays below 2^63: it would be {after} base units")


def check_whole_supply(state: State) -> None:
    """The same over the whole state; used at start and in tests because it visits every record."""
    held = sum(int.from_bytes(data[:8], "big") for data in state.data["accounts"].values())
    held += sum(held_by(record) for store in ("locks", "registry") for _, record in state.items(store))
    counted = Overlay(state).total_supply()
    if held != counted:
        raise BrokenInvariant(
            f"what is held equals the supply: {held} base units are held, {counted} counted"
        )
