"""What makes a header a valid child of its parent, checked by everybody alike. docs/spec/nakamoto.md "Headers"

A `Header` is a stranger's word; a `Link` comes only out of `HeaderRules.check`, a genesis block or the own disk.
"""

from collections.abc import Callable, Sequence

import msgspec

from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.nakamoto.authors import Miner, Schedule
from aitbc.core.consensus.nakamoto.work import (
    first_target,
    is_enough,
    next_target,
    open_seal,
    search_digest,
    target_of,
    template_digest,
    work_hash,
    work_of,
)
from aitbc.core.crypto.hashing import MAX_COUNT
from aitbc.core.crypto.merkle import list_root
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import MAX_EXTRA_BYTES, Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected

EMPTY_TXS_ROOT = list_root([])
"""Shows in the header that a block is empty."""
MAX_PROPOSER_BYTES = 90
"""The longest bech32 text."""

SignatureCheck = Callable[[bytes, bytes, bytes], bool]
"""(auth key, digest, signature) → is it good; as `crypto.schemes.verify`."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A valid header as its children and the choice of the chain need it; enough to begin from after a restart."""

    hash: bytes
    height: int
    timestamp_ms: int
    author: str
    weight: int
    """Work of all blocks up to this one; like a target it may pass 64 bits."""
    child_target: int
    """The target of its children."""


class _StoredLink(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Weight and target as bytes: they may pass 64 bits."""

    hash: bytes
    height: int
    timestamp_ms: int
    author: str
    weight: bytes
    child_target: bytes


def link_to_bytes(link: Link) -> bytes:
    """For a disk."""
    return pack(
        _StoredLink(
            link.hash,
            link.height,
            link.timestamp_ms,
            link.author,
            link.weight.to_bytes(48, "big"),
            link.child_target.to_bytes(32, "big"),
        )
    )


def link_from_bytes(raw: bytes) -> Link:
    """Raises Rejected for what is none."""
    stored = unpack(raw, _StoredLink, limit=1_024)
    return Link(
        hash=stored.hash,
        height=stored.height,
        timestamp_ms=stored.timestamp_ms,
        author=stored.author,
        weight=int.from_bytes(stored.weight, "big"),
        child_target=int.from_bytes(stored.child_target, "big"),
    )


def genesis_link(header: Header, settings: NakamotoSettings) -> Link:
    """Block 0: no work, no author."""
    assert header.height == 0, "only a genesis block has no parent"
    return Link(
        hash=header_hash(header),
        height=0,
        timestamp_ms=header.timestamp_ms,
        author="",
        weight=0,
        child_target=first_target(settings),
    )


class HeaderRules:
    """The rules of one chain."""

    def __init__(
        self,
        settings: NakamotoSettings,
        *,
        chain_id: str,
        miners: Sequence[Miner],
        verify: SignatureCheck,
    ) -> None:
        """`miners`: who the keys of `settings` are, in their order; none: anybody may author."""
        self.settings = settings
        self.chain_id = chain_id
        self.schedule = Schedule(miners, settings) if miners else None
        self._verify = verify
        self._easiest = target_of(settings.least_difficulty)

    @property
    def is_signed(self) -> bool:
        return self.schedule is not None

    def check(self, header: Header, parent: Link) -> Link:
        """Raises Rejected for the first rule that is broken, from cheap to dear."""
        self._check_form(header)
        self._check_place(header, parent)
        check_time(header.timestamp_ms, parent.timestamp_ms, self.settings)
        self._check_emptiness(header, parent)
        self._check_seal(header, parent)
        return self._link(header, parent)

    def check_alone(self, header: Header) -> None:
        """What can be said of a header whose parent is not here: raises Rejected unless it cost the least difficulty,
        so that to be held costs a stranger something."""
        self._check_form(header)
        self._check_work(header, self._easiest)

    def _check_form(self, header: Header) -> None:
        if header.chain_id != self.chain_id:
            raise Rejected(Reason.WRONG_CHAIN, f"{header.chain_id[:64]!r}, not {self.chain_id!r}")
        if not 0 <= header.version < MAX_COUNT or not 0 < header.height <= MAX_SIGNED:
            raise Rejected(Reason.OUT_OF_RANGE, f"version {header.version}, height {header.height}")
        if not 0 <= header.timestamp_ms <= MAX_SIGNED:
            raise Rejected(Reason.BAD_TIMESTAMP, f"{header.timestamp_ms} ms is not within 0 and 2^53 - 1")
        if len(header.extra) > MAX_EXTRA_BYTES or len(header.proposer.encode()) > MAX_PROPOSER_BYTES:
            raise Rejected(Reason.TOO_LARGE, "extra or proposer of a header is too long")
        hashes = (
            header.parent,
            header.txs_root,
            header.outcomes_root,
            header.state_root,
            header.next_validators_hash,
            header.history_root,
        )
        if any(len(hash_) != 32 for hash_ in hashes):
            raise Rejected(Reason.MALFORMED, "a hash in a header has not 32 bytes")
        open_seal(header.seal, is_signed=self.is_signed)

    def _check_place(self, header: Header, parent: Link) -> None:
        if header.height != parent.height + 1:
            raise Rejected(Reason.WRONG_HEIGHT, f"{header.height} on top of {parent.height}")
        if header.parent != parent.hash:
            raise Rejected(Reason.WRONG_PARENT, f"{header.parent.hex()}, not {parent.hash.hex()}")

    def _check_emptiness(self, header: Header, parent: Link) -> None:
        if header.txs_root != EMPTY_TXS_ROOT:
            return
        if not self.settings.empty_blocks:
            raise Rejected(Reason.EMPTY_BLOCK, f"block {header.height} holds no transaction")
        earliest = parent.timestamp_ms + self.settings.interval_ms
        if header.timestamp_ms < earliest:
            raise Rejected(
                Reason.BAD_TIMESTAMP, f"an empty block at {header.timestamp_ms}, before {earliest}"
            )

    def _check_seal(self, header: Header, parent: Link) -> None:
        """The turn, the work, and last the signature, which takes fifty times as long as all before."""
        if self.schedule is None:
            self._check_work(header, parent.child_target)
            return
        leader = self.schedule.check(
            header.proposer,
            header.timestamp_ms,
            parent_author=parent.author,
            parent_ms=parent.timestamp_ms,
        )
        self._check_work(header, parent.child_target)
        _, signature = open_seal(header.seal, is_signed=True)
        if not self._verify(leader.auth_key, template_digest(header), signature):
            raise Rejected(Reason.BAD_SIGNATURE, f"block {header.height} is not signed by {header.proposer}")

    def _check_work(self, header: Header, target: int) -> None:
        nonce, signature = open_seal(header.seal, is_signed=self.is_signed)
        found = work_hash(search_digest(template_digest(header), signature), nonce)
        if not is_enough(found, target):
            raise Rejected(Reason.NOT_ENOUGH_WORK, f"{found.hex()} is above {target:064x}")

    def _link(self, header: Header, parent: Link) -> Link:
        target = parent.child_target
        # The first block's own time is nobody's work: a genesis may be a month old when the first miner starts.
        solve_ms = header.timestamp_ms - parent.timestamp_ms
        follows_genesis = parent.height == 0
        return Link(
            hash=header_hash(header),
            height=header.height,
            timestamp_ms=header.timestamp_ms,
            author=header.proposer,
            weight=parent.weight + work_of(target),
            child_target=target
            if follows_genesis
            else next_target(self.settings, target=target, solve_ms=solve_ms),
        )


def earliest_child_ms(parent_ms: int, settings: NakamotoSettings) -> int:
    """The lowest timestamp of a child: time moves forward (docs/spec/blocks.md), which is stricter than to be above
    the median of the last eleven."""
    return parent_ms + max(1, settings.min_interval_ms)


def check_time(timestamp_ms: int, parent_ms: int, settings: NakamotoSettings) -> None:
    earliest = earliest_child_ms(parent_ms, settings)
    if timestamp_ms < earliest:
        raise Rejected(Reason.BAD_TIMESTAMP, f"{timestamp_ms} is before {earliest}")
    latest = parent_ms + settings.max_interval_ms
    if settings.max_interval_ms and timestamp_ms > latest:
        raise Rejected(Reason.BAD_TIMESTAMP, f"{timestamp_ms} is after {latest}")
