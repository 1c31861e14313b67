"""Whether a header is a child of its parent where work agrees, for whoever has the genesis document and nothing else.

docs/spec/nakamoto.md "Work", "Authors" and "Headers", written a second time from the chapter: of the core this uses
types, codec and crypto, and nothing of agreement (an import contract). Difficulty, weight and turn are worked out here
and read from no answer. How many transactions a block holds is not seen in a header, and not checked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from aitbc.client.finality import plain_answer
from aitbc.core.codec.canonical import convert, jcs
from aitbc.core.codec.digests import fields_without_seal, genesis_hash_of, header_hash, validators_hash
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.mountains import peaks_root
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import MAX_EXTRA_BYTES, PROTOCOL_VERSION, ZERO_HASH, Header
from aitbc.core.types.nakamoto import NakamotoSettings, WorkMode, check_settings
from aitbc.core.types.reasons import Reason, Rejected

MAX_PROPOSER_BYTES = 90
SOLVE_BLOCKS = 6
"""A block counts as at most so many block times late."""
NOTHING = list_root([])
"""Root of an empty list: shows in a header that its block is empty."""
SignatureCheck = Callable[[bytes, bytes, bytes], bool]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A header that was checked, as its children and the choice between branches need it."""

    hash: bytes
    height: int
    timestamp_ms: int
    author: str
    weight: int
    """Work of all blocks from the first trusted one up to this one."""
    child_target: int
    """A child's hash of work is at most this."""


class _Consensus(msgspec.Struct, frozen=True):
    mode: WorkMode
    work: NakamotoSettings


class _WorkGenesis(msgspec.Struct, frozen=True):
    """What headers need of genesis.json; its hash covers all of it."""

    chain_id: str
    timestamp: int
    consensus: _Consensus


@dataclass(frozen=True, kw_only=True)
class WorkChain:
    """One chain's rules of headers: all of it follows from the genesis document."""

    chain_id: str
    genesis_hash: bytes
    begin_ms: int
    settings: NakamotoSettings
    miners: tuple[tuple[str, bytes], ...]
    """Address and key of who may author, in the order of their turns; nobody: anybody may."""
    verify: SignatureCheck = verify

    # Where a chain begins

    def first(self, header: Header) -> Place:
        """Block 0, as far as it follows from the document: all but its state, which no header's check shows. Who had
        the work to begin from another one could as well lie in block 1."""
        expected = Header(
            version=header.version,
            chain_id=self.chain_id,
            height=0,
            parent=ZERO_HASH,
            timestamp_ms=self.begin_ms,
            proposer="",
            txs_root=NOTHING,
            outcomes_root=NOTHING,
            state_root=header.state_root,
            next_validators_hash=validators_hash([]),
            history_root=peaks_root([]),
            extra=self.genesis_hash,
            seal=b"",
        )
        _refuse_unless(header == expected, Reason.WRONG_CHAIN, "block 0 is not that of this genesis document")
        return self.begin_at(header, target=self.first_target)

    def begin_at(self, header: Header, *, target: int) -> Place:
        """A block that is trusted: what is above it is weighed from here."""
        return Place(
            hash=header_hash(header),
            height=header.height,
            timestamp_ms=header.timestamp_ms,
            author=header.proposer,
            weight=0,
            child_target=target,
        )

    @property
    def first_target(self) -> int:
        return _target_of(self.settings.difficulty)

    # A child of its parent, in the order of the chapter's table

    def check(self, header: Header, parent: Place) -> Place:
        """Raises Rejected for the first rule that is broken."""
        self._check_form(header)
        at, parents = header.timestamp_ms, parent.timestamp_ms
        _refuse_unless(
            header.height == parent.height + 1,
            Reason.WRONG_HEIGHT,
            f"block {header.height} on {parent.height}",
        )
        _refuse_unless(
            header.parent == parent.hash,
            Reason.WRONG_PARENT,
            f"block {header.height} stands on another block than was shown below it",
        )
        settings = self.settings
        in_time = at - parents >= max(1, settings.min_interval_ms)
        in_time = in_time and (not settings.max_interval_ms or at - parents <= settings.max_interval_ms)
        _refuse_unless(
            in_time, Reason.BAD_TIMESTAMP, f"block {header.height} at {at}, its parent at {parents}"
        )
        if header.txs_root == NOTHING:
            _refuse_unless(settings.empty_blocks, Reason.EMPTY_BLOCK, f"block {header.height} holds nothing")
            waited = at - parents >= settings.interval_ms
            _refuse_unless(waited, Reason.BAD_TIMESTAMP, f"block {header.height} is empty and early")
        key = self._check_turn(header, parent) if self.miners else b""
        self._check_work(header, parent.child_target, key)
        return self._place(header, parent)

    def _check_form(self, header: Header) -> None:
        height = header.height
        _refuse_unless(
            header.chain_id == self.chain_id, Reason.WRONG_CHAIN, f"a block of chain {header.chain_id[:64]}"
        )
        in_range = 0 <= header.version < 2**64 and 0 < height <= MAX_SIGNED
        _refuse_unless(in_range, Reason.OUT_OF_RANGE, f"version {header.version}, height {height}")
        _refuse_unless(
            0 <= header.timestamp_ms <= MAX_SIGNED, Reason.BAD_TIMESTAMP, f"{header.timestamp_ms} ms"
        )
        short = len(header.extra) <= MAX_EXTRA_BYTES and len(header.proposer.encode()) <= MAX_PROPOSER_BYTES
        _refuse_unless(short, Reason.TOO_LARGE, f"extra or proposer of block {height} is too long")
        length = 72 if self.miners else 8
        _refuse_unless(len(header.seal) == length, Reason.MALFORMED, f"a seal of {len(header.seal)} bytes")

    def _check_turn(self, header: Header, parent: Place) -> bytes:
        """The key of the author, whose turn it is."""
        addresses = [address for address, _ in self.miners]
        before = addresses.index(parent.author) if parent.author in addresses else -1
        late_ms = header.timestamp_ms - parent.timestamp_ms - self.settings.interval_ms
        passed = max(0, late_ms // self.settings.take_over_ms)
        address, key = self.miners[(before + 1 + passed) % len(self.miners)]
        _refuse_unless(
            header.proposer == address,
            Reason.WRONG_PROPOSER,
            f"block {header.height} is by {header.proposer[:64]!r} in the turn of {address}",
        )
        return key

    def _check_work(self, header: Header, target: int, key: bytes) -> None:
        nonce, signature = header.seal[:8], header.seal[8:]
        template = tagged("aitbc/template/1", *fields_without_seal(header))
        search = tagged("aitbc/work/1", template, signature)
        found = int.from_bytes(sha256(search + nonce).digest(), "big")
        _refuse_unless(
            found <= target,
            Reason.NOT_ENOUGH_WORK,
            f"block {header.height}: {found:064x} is above {target:064x}",
        )
        if key:
            _refuse_unless(
                self.verify(key, template, signature),
                Reason.BAD_SIGNATURE,
                f"block {header.height} is not signed by {header.proposer}",
            )
        known = header.version <= PROTOCOL_VERSION
        _refuse_unless(known, Reason.WRONG_VERSION, f"block {header.height} is of version {header.version}")

    def _place(self, header: Header, parent: Place) -> Place:
        target = parent.child_target
        solve_ms = header.timestamp_ms - parent.timestamp_ms
        return Place(
            hash=header_hash(header),
            height=header.height,
            timestamp_ms=header.timestamp_ms,
            author=header.proposer,
            weight=parent.weight + 2**256 // (target + 1),
            child_target=target if header.height == 1 else self._next_target(target, solve_ms),
        )

    def _next_target(self, target: int, solve_ms: int) -> int:
        """The chapter's formula, in its letters: ASERT relative to the parent."""
        settings = self.settings
        if settings.difficulty_rule == "fixed":
            return target
        t = settings.block_time_ms
        s = min(solve_ms, SOLVE_BLOCKS * t)
        e = (s - t) * 65_536 // settings.half_life_ms
        q, f = divmod(e, 65_536)
        c = 65_536 + (195_766_423_245_049 * f + 971_821_376 * f**2 + 5_127 * f**3 + 2**47) // 2**48
        moved = target * c * (1 << q) // 65_536 if q >= 0 else target * c // (65_536 << -q)
        return min(max(1, moved), _target_of(settings.least_difficulty))

    def beats(self, one: Place, other: Place) -> bool:
        """Is `one`'s branch to be preferred to `other`'s, which was known first?"""
        if one.weight != other.weight or not self.miners:
            return one.weight > other.weight
        return one.hash < other.hash


def work_chain(document: object, *, genesis_hash: bytes | None = None) -> WorkChain:
    """The rules of a genesis document; whoever got it from a stranger gives the hash that it must have. Raises
    Rejected, also for a chain that does not agree by work."""
    plain: dict[str, Any] = plain_answer(document, limit=None)
    found = genesis_hash_of(jcs(plain))
    _refuse_unless(
        genesis_hash in (None, found), Reason.WRONG_CHAIN, f"the document is that of chain {found.hex()}"
    )
    genesis = convert(plain, _WorkGenesis)
    settings = genesis.consensus.work
    check_settings(settings, mode=genesis.consensus.mode)
    keys = [key_from_text(text) for text in settings.miners]
    return WorkChain(
        chain_id=genesis.chain_id,
        genesis_hash=found,
        begin_ms=genesis.timestamp * 1000,
        settings=settings,
        miners=tuple((address_of(key), key) for key in keys),
    )


def agrees_by_work(document: Any) -> bool:
    """Does a genesis document say so? Whether it is in order is for `work_chain` to see."""
    consensus = document.get("consensus") if isinstance(document, dict) else None
    return isinstance(consensus, dict) and consensus.get("mode") in ("pow", "poa-pow")


def _target_of(difficulty: int) -> int:
    return 2**256 // difficulty - 1


def _refuse_unless(condition: bool, reason: Reason, message: str) -> None:
    if not condition:
        raise Rejected(reason, message)
