"""One node's part in agreement by work: sync, choice of the branch, finality by depth, and its own blocks.

docs/spec/nakamoto.md. An event is entered into the tables; then the same four steps follow, whatever it was: switch to
the best branch that is here, fetch what a better one lacks, ask for more headers, mine. Each looks at the tables anew
and does nothing when nothing changed, so the order of events cannot leave something undone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import assert_never

import msgspec

from aitbc.core.consensus.engine import BuildBlock, PenalisePeer, SetTimer, TimerFired, TransactionsArrived
from aitbc.core.consensus.nakamoto.engine import (
    MAX_HEADERS,
    Announce,
    BlockArrived,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    Finalize,
    ForgetBlocks,
    HeaderAnnounced,
    HeadersArrived,
    HeadSwitched,
    Mine,
    NakamotoEffect,
    NakamotoEvent,
    NonceFound,
    PartedBelowFinal,
    PeerJoined,
    PeerLeft,
    SealBlock,
    SignTemplate,
    StopMining,
    SwitchHead,
    SwitchRefused,
    TemplateBuilt,
    TemplateSigned,
)
from aitbc.core.consensus.nakamoto.fetching import STALL_MS, Fetching
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link
from aitbc.core.consensus.nakamoto.mining import Mining
from aitbc.core.consensus.nakamoto.orphans import Orphans
from aitbc.core.consensus.nakamoto.tree import MAX_AHEAD, TooLight, Tree, header_hash_of
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected

PACE, STALL, POLL = "pace", "stall", "poll"
"""Timers: a block or template is due · a request has waited too long · ask somebody whether something was missed."""

MAX_PEERS = 128
"""Links that are kept account of; a host has fewer."""
LOOKAHEAD = 64
"""Blocks above the head that are fetched before it moves: two windows, so that the line is never idle."""
MAX_APPLY = 32
"""Blocks in one switch that only goes forward: seconds of executing at most, between which news are heard."""
POLL_MS = 10_000
"""An announcement that got lost costs at most so long."""
QUIET_MS = 10_000
"""A peer whose branch is too light, or does not meet ours, is not asked again before: headers cost time to check."""
HOLD_MS = 5_000
"""A miner waits so long after its start, and after each step of catching up, before it mines on what it has: earlier it
would only begin a branch of its own. Not for ever: the blocks of a better branch may never come."""
MAX_BEHIND = 2
"""More headers or blocks than so many at once are catching up. An attacker who held miners back with headers alone
would need that many blocks' work in each `HOLD_MS`."""
MAX_BRANCHES = 16
"""Branches better than the head whose blocks are fetched together. Each of them cost its author a block's work."""


class Peer(msgspec.Struct):
    """What was asked of a peer, and how it went."""

    owes_headers: bool = False
    asked_ms: int = 0
    quiet_until_ms: int = 0
    has_more: bool = False
    """Its last answer was full and good, and held something new."""
    tip: bytes = b""
    """The newest header that it has shown."""
    is_apart: bool = False
    """Its branch left ours below the final block, and the host knows."""


class Nakamoto:
    """Follows the chain; with a miner's address, also makes blocks."""

    def __init__(
        self,
        *,
        rules: HeaderRules,
        root: Link,
        chain: Sequence[Header] = (),
        miner: str | None = None,
        transactions_wait: Callable[[], int],
    ) -> None:
        """`root`: of the last `Finalize`, or `genesis_link`. `chain`: the headers of the head's branch above it, which
        the host has on disk and executed. `transactions_wait`: how many the next block could hold; it may stop counting
        at `min_transactions`. Raises Rejected when they are no chain of these rules."""
        self._rules = rules
        self._transactions_wait = transactions_wait
        self._tree = Tree(root, rules)
        self._orphans = Orphans()
        self._fetching = Fetching()
        self._mining = Mining(miner, rules) if miner is not None else None
        self._blocks: dict[bytes, None] = {}
        """In the tree, and held by the host."""
        self._ready: dict[bytes, None] = {root.hash: None}
        """Of those, and the root: blocks of which all ancestors are held too."""
        self._peers: dict[str, Peer] = {}
        self._switching: bytes | None = None
        self._timers: dict[str, int] = {}
        self._effects: list[NakamotoEffect] = []
        self._now_ms = 0
        self._mines_from_ms = 0
        for header in chain:
            link = self._tree.add(header, "").link
            self._hold(link.hash)
            self._tree.head = link

    # What others may ask

    @property
    def head(self) -> Link:
        return self._tree.head

    @property
    def settings(self) -> NakamotoSettings:
        return self._rules.settings

    @property
    def final(self) -> Link:
        return self._tree.root

    @property
    def best(self) -> Link:
        """The best header there is, whether or not its block is here."""
        return self._tree.best

    @property
    def held(self) -> dict[str, int]:
        """How much of what strangers send is held, each below its named maximum."""
        return {
            "headers": len(self._tree),
            "orphans": len(self._orphans),
            "orphan_bytes": self._orphans.size,
            "requests": len(self._fetching),
            "peers": len(self._peers),
        }

    # The engine's interface

    def start(self, now_ms: int) -> list[NakamotoEffect]:
        self._now_ms = now_ms
        self._hold_mining()
        self._set_timer(POLL, now_ms + POLL_MS)
        return self._go_on()

    def on(self, now_ms: int, event: NakamotoEvent) -> list[NakamotoEffect]:
        self._now_ms = now_ms
        match event:
            case TimerFired():
                self._time_passed(event.timer)
            case TransactionsArrived():
                self._learn_of_work()
            case PeerJoined():
                self._meet(event.peer)
            case PeerLeft():
                self._part(event.peer)
            case HeaderAnnounced():
                self._hear_header(event.peer, event.header)
            case HeadersArrived():
                self._hear_headers(event)
            case BlockArrived():
                self._take_block(event.hash)
            case BlockMissed():
                self._miss_block(event)
            case HeadSwitched():
                self._learn_switched(event.hash)
            case SwitchRefused():
                self._learn_refused(event)
            case TemplateBuilt():
                self._learn_built(event)
            case TemplateSigned():
                self._learn_signed(event.template, event.signature)
            case NonceFound():
                self._learn_found(event.search, event.nonce)
            case _:
                assert_never(event)
        return self._go_on()

    def _go_on(self) -> list[NakamotoEffect]:
        self._trim()
        self._switch()
        self._fetch()
        self._pursue_headers()
        self._mine()
        effects, self._effects = self._effects, []
        return effects

    # Peers and time

    def _meet(self, peer: str) -> None:
        if len(self._peers) < MAX_PEERS and peer not in self._peers:
            self._peers[peer] = Peer()
            self._fetching.joined(peer)
            self._ask_headers(peer)

    def _part(self, peer: str) -> None:
        self._peers.pop(peer, None)
        self._fetching.left(peer)
        self._orphans.forget_peer(peer)

    def _time_passed(self, timer: str) -> None:
        self._timers.pop(timer, None)
        if timer == POLL:
            self._set_timer(POLL, self._now_ms + POLL_MS)
            self._ask_somebody()
        elif timer == STALL:
            self._fetching.stalled(self._now_ms)

    def _set_timer(self, timer: str, at_ms: int) -> None:
        if self._timers.get(timer) != at_ms:
            self._timers[timer] = at_ms
            self._effects.append(SetTimer(timer, at_ms))

    def _penalise(self, peer: str, reason: Reason) -> None:
        if peer:
            self._effects.append(PenalisePeer(peer, reason))

    # Headers

    def _hear_header(self, peer: str, header: Header) -> None:
        """One announced header, and what waited for it."""
        waiting = deque([(header, peer)])
        while waiting:
            header, source = waiting.popleft()
            try:
                hash_ = self._take_header(source, header)
            except Rejected as rejection:
                self._penalise(source, rejection.reason)
                continue
            if hash_ is not None:
                waiting += [(orphan.header, orphan.peer) for orphan in self._orphans.take_children(hash_)]

    def _take_header(self, peer: str, header: Header) -> bytes | None:
        """Its hash, if it is in the tree now."""
        hash_ = header_hash_of(header)
        if hash_ not in self._tree:
            if self._is_early(header):
                return None
            if header.parent not in self._tree and not self._tree.is_invalid(header.parent):
                self._keep_orphan(peer, hash_, header)
                return None
            self._tree.add(header, peer)
        self._has_shown(peer, self._tree.link(hash_))
        return hash_

    def _is_early(self, header: Header) -> bool:
        """Ahead of this clock: it may be good later, and is asked for again."""
        return header.timestamp_ms > self._now_ms + self._rules.settings.max_ahead_ms

    def _keep_orphan(self, peer: str, hash_: bytes, header: Header) -> None:
        if header.height <= self._tree.root.height:
            return
        self._rules.check_alone(header)
        self._orphans.add(hash_, header, peer)
        self._ask_headers(peer)

    def _has_shown(self, peer: str, link: Link) -> None:
        if peer in self._peers:
            self._peers[peer].tip, self._peers[peer].is_apart = link.hash, False
            self._fetching.has_shown(peer, link.weight)

    def _hear_headers(self, event: HeadersArrived) -> None:
        asked = self._peers.get(event.peer)
        if asked is None or not asked.owes_headers:
            return
        asked.owes_headers = asked.has_more = False
        timely = list(takewhile(lambda header: not self._is_early(header), event.headers[:MAX_HEADERS]))
        if timely:
            self._take_branch(event.peer, asked, timely)
        elif not event.meets:
            self._learn_apart(event.peer, asked)
        elif not event.headers:
            self._learn_level()

    def _learn_apart(self, peer: str, asked: Peer) -> None:
        """A peer without our final block has not come so far yet, unless it announced a header above: then it is on a
        branch that left ours below."""
        if self._orphans.has_of(peer):
            self._part_below_final(peer, asked)
        else:
            self._be_quiet(asked)

    def _part_below_final(self, peer: str, asked: Peer) -> None:
        """No fault: after a cut the heavier side has a final block that the lighter lacks, which may yet come over."""
        self._be_quiet(asked)
        self._orphans.forget_peer(peer)
        if not asked.is_apart:
            asked.is_apart = True
            self._effects.append(PartedBelowFinal(peer))

    def _take_branch(self, peer: str, asked: Peer, headers: list[Header]) -> None:
        is_full = len(headers) == MAX_HEADERS
        try:
            new = self._tree.extend(headers, peer, least_weight=self._tree.head.weight)
        except TooLight as light:
            self._be_quiet(asked)
            if is_full:
                self._penalise(peer, light.reason)
            return
        except Rejected as rejection:
            if rejection.reason is Reason.BELOW_FINAL:
                self._part_below_final(peer, asked)
                return
            self._be_quiet(asked)
            self._penalise(peer, rejection.reason)
            return
        last = header_hash_of(headers[-1])
        if last in self._tree:
            self._has_shown(peer, self._tree.link(last))
        asked.has_more = is_full and bool(new)
        if not new:
            self._learn_level()
        elif len(new) > MAX_BEHIND:
            self._hold_mining()
        for entry in new:
            for orphan in self._orphans.take_children(entry.link.hash):
                self._hear_header(orphan.peer, orphan.header)

    def _be_quiet(self, peer: Peer) -> None:
        peer.quiet_until_ms = self._now_ms + QUIET_MS

    def _ask_headers(self, peer: str) -> bool:
        """Ask a peer for what follows on what both know; False: not now."""
        asked = self._peers.get(peer)
        if asked is None or self._now_ms < asked.quiet_until_ms:
            return False
        if asked.owes_headers and self._now_ms < asked.asked_ms + STALL_MS:
            return False
        asked.owes_headers, asked.asked_ms = True, self._now_ms
        start = self._tree.best.hash
        if asked.tip in self._tree and self._tree.link(asked.tip).weight >= self._tree.head.weight:
            start = asked.tip
        self._effects.append(FetchHeaders(peer, self._tree.locator(start)))
        return True

    def _ask_somebody(self) -> None:
        """The peer that was asked longest ago."""
        for peer in sorted(self._peers, key=lambda name: self._peers[name].asked_ms):
            if self._ask_headers(peer):
                return

    def _pursue_headers(self) -> None:
        """One peer at a time is asked for more, while the head follows; when it stalls, another is asked too."""
        if self._tree.best.height - self._tree.head.height > MAX_AHEAD - MAX_HEADERS:
            return
        more = [peer for peer, asked in self._peers.items() if asked.has_more]
        if more and not any(
            asked.owes_headers and self._now_ms < asked.asked_ms + STALL_MS for asked in self._peers.values()
        ):
            self._ask_headers(min(more, key=lambda peer: self._peers[peer].asked_ms))
        if more:
            self._set_timer(STALL, self._timers.get(STALL, self._now_ms + STALL_MS))

    # Blocks

    def _lacking(self, tip: Link) -> list[bytes]:
        """A branch from the first block on that is not ready."""
        branch: list[bytes] = []
        hash_ = tip.hash
        while hash_ not in self._ready:
            branch.append(hash_)
            hash_ = self._tree.entry(hash_).parent
        return branch[::-1]

    def _fetch(self) -> None:
        wanted: dict[bytes, int] = {}
        for branch in self._branches_to_fetch():
            for hash_ in branch[: max(LOOKAHEAD, self._needed(branch))]:
                if hash_ not in self._blocks:
                    wanted[hash_] = self._tree.link(hash_).weight
        for peer, hashes in self._fetching.plan(self._now_ms, list(wanted.items())).items():
            self._effects.append(FetchBlocks(peer, hashes))
        if wanted:
            self._set_timer(STALL, self._fetching.next_look_ms(self._now_ms))

    def _branches_to_fetch(self) -> list[list[bytes]]:
        """Of the branches that are better than the head and not here, those first that did not fail, then each peer's
        first before anybody's second, then the best: who withholds blocks cannot keep away those of others."""
        shown: dict[str, int] = {}
        ordered: list[tuple[int, int, list[bytes]]] = []
        for tip in self._tree.rivals():
            branch = self._lacking(tip)
            if branch:
                peer = self._tree.entry(branch[0]).peer
                ordered.append((self._fetching.failures(branch[0]), shown.get(peer, 0), branch))
                shown[peer] = shown.get(peer, 0) + 1
        ordered.sort(key=lambda candidate: candidate[:2])
        return [branch for _, _, branch in ordered[:MAX_BRANCHES]]

    def _needed(self, branch: list[bytes]) -> int:
        """How many of these blocks, the lowest first, make a branch better than the head."""
        for count, hash_ in enumerate(branch, start=1):
            if self._tree.beats(self._tree.link(hash_), self._tree.head):
                return count
        raise AssertionError("the branch of a rival is better than the head")

    def _take_block(self, hash_: bytes) -> None:
        self._fetching.arrived(hash_)
        if hash_ in self._tree:
            if hash_ != self._tree.root.hash:
                self._hold(hash_)
        else:
            self._effects.append(ForgetBlocks([hash_]))

    def _miss_block(self, event: BlockMissed) -> None:
        self._fetching.failed(event.peer, event.hash, self._now_ms)
        if event.reason is not None:
            self._penalise(event.peer, event.reason)

    def _hold(self, hash_: bytes) -> None:
        """A block is here; it is ready when all below it are, and may make those above ready."""
        self._blocks[hash_] = None
        family = [hash_] if self._tree.entry(hash_).parent in self._ready else []
        for ready in family:
            self._ready[ready] = None
            family += [child for child in self._tree.children(ready) if child in self._blocks]

    def _forget(self, gone: list[bytes]) -> None:
        held = [hash_ for hash_ in gone if hash_ in self._blocks]
        for hash_ in gone:
            self._blocks.pop(hash_, None)
            self._ready.pop(hash_, None)
            self._fetching.forget(hash_)
        if held:
            self._effects.append(ForgetBlocks(held))

    def _trim(self) -> None:
        """Never while the host is on its way to a block that would be forgotten."""
        if self._switching is None:
            gone = self._tree.trim()
            if gone:
                self._forget(gone)

    # The head

    def _switch(self) -> None:
        """To the best branch that is ready; a long way forward is gone in steps."""
        if self._switching is not None:
            return
        head = self._tree.head
        rivals = [link for link in map(self._tree.link, self._ready) if self._tree.beats(link, head)]
        if not rivals:
            return
        best = max(rivals, key=self._tree.rank)
        path = self._tree.path(head.hash, best.hash)
        apply = path.apply[: max(MAX_APPLY, self._needed(path.apply))]
        self._switching = apply[-1]
        self._effects.append(SwitchHead(apply[-1], path.undo, apply))

    def _learn_switched(self, hash_: bytes) -> None:
        assert hash_ == self._switching, "a switch is answered before another is asked for"
        self._switching = None
        new_head = self._tree.link(hash_)
        if new_head.height - self._tree.head.height > MAX_BEHIND:
            self._hold_mining()
        self._tree.head = new_head
        self._effects.append(Announce(self._tree.entry(hash_).header))
        self._finalize()

    def _learn_refused(self, event: SwitchRefused) -> None:
        """Whoever showed the header first answers for the block; the next best branch follows at once."""
        assert event.hash == self._switching, "a switch is answered before another is asked for"
        self._switching = None
        self._penalise(self._tree.entry(event.invalid).peer, event.reason)
        self._forget(self._tree.mark_invalid(event.invalid))

    def _finalize(self) -> None:
        height = self._tree.head.height - self._rules.settings.finality_depth
        if height <= self._tree.root.height:
            return
        final = self._tree.ancestor(self._tree.head.hash, height)
        root = self._tree.root
        below = self._tree.path(root.hash, final.hash).apply
        self._forget(self._tree.make_final(final.hash))
        for hash_ in below:
            del self._blocks[hash_]
        for hash_ in [root.hash, *below[:-1]]:
            del self._ready[hash_]
        self._orphans.forget_below(height)
        self._effects.append(Finalize(final))

    # Own blocks

    def _learn_of_work(self) -> None:
        if self._mining is not None:
            self._mining.note_transactions()

    def _hold_mining(self) -> None:
        self._mines_from_ms = self._now_ms + HOLD_MS

    def _learn_level(self) -> None:
        """A peer has nothing that is missing here."""
        if self._tree.best.height - self._tree.head.height <= MAX_BEHIND:
            self._mines_from_ms = min(self._mines_from_ms, self._now_ms)

    def _mine(self) -> None:
        if self._mining is None or self._switching is not None:
            return
        head, mining = self._tree.head, self._mining
        if mining.parent and mining.parent != head.hash:
            self._stop_mining(mining)
        chance = mining.chance(self._now_ms, head, transactions_wait=self._transactions_wait())
        if chance is None:
            self._stop_mining(mining)
            return
        from_ms = max(self._mines_from_ms, chance.begin_ms)
        if self._now_ms < from_ms:
            self._stop_mining(mining)
            self._set_timer(PACE, from_ms)
            return
        self._follow_template(mining, chance.begin_ms, chance.end_ms)

    def _follow_template(self, mining: Mining, timestamp_ms: int, end_ms: int | None) -> None:
        """Ask for a template when one is due, and look again when the next is, or the turn ends."""
        renew_ms = mining.renew_at_ms()
        if renew_ms is not None and renew_ms <= self._now_ms:
            mining.begin(self._now_ms, self._tree.head)
            self._effects.append(BuildBlock(self._tree.head.hash, timestamp_ms))
        elif renew_ms is not None:
            self._set_timer(PACE, renew_ms if end_ms is None else min(renew_ms, end_ms))

    def _stop_mining(self, mining: Mining) -> None:
        if mining.is_searching:
            self._effects.append(StopMining())
        mining.stop()

    def _learn_built(self, event: TemplateBuilt) -> None:
        assert self._mining is not None, "only a miner asks for templates"
        digest = self._mining.built(event.header, event.transactions)
        if digest is None:
            return
        if self._rules.is_signed:
            self._effects.append(SignTemplate(digest))
        else:
            self._learn_signed(digest, b"")

    def _learn_signed(self, template: bytes, signature: bytes) -> None:
        assert self._mining is not None, "only a miner signs"
        search = self._mining.signed(template, signature)
        if search is not None:
            self._effects.append(Mine(search, self._tree.link(self._mining.parent).child_target))

    def _learn_found(self, search: bytes, nonce: int) -> None:
        assert self._mining is not None, "only a miner searches"
        found = self._mining.found(search, nonce)
        if found is None or found[1].parent not in self._tree:
            return
        template, header = found
        link = self._tree.add(header, "").link
        self._hold(link.hash)
        self._effects.append(SealBlock(template, header))
