"""Agreement by work as a transcript: one node, everything it hears and everything it asks for.

The host in these stories does at once what it is asked, unless a story holds it back.
"""

from collections.abc import Sequence

import msgspec
import pytest

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import BuildBlock, PenalisePeer, SetTimer, TimerFired, TransactionsArrived
from aitbc.core.consensus.nakamoto import engine as contract
from aitbc.core.consensus.nakamoto import rules as rules_module
from aitbc.core.consensus.nakamoto.engine import (
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
from aitbc.core.consensus.nakamoto.fetching import STALL_MS
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, genesis_link
from aitbc.core.consensus.nakamoto.mining import REFRESH_MS, TEMPLATE_MS
from aitbc.core.consensus.nakamoto.rules import HOLD_MS, POLL, QUIET_MS, STALL, Nakamoto
from aitbc.core.consensus.nakamoto.tree import Tree
from aitbc.core.consensus.nakamoto.work import search_digest, template_digest
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import MAX_FINALITY_DEPTH, NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim.nakamoto.blocks import (
    CHAIN_ID,
    genesis_header,
    miner_named,
    sealed,
    search,
    sign,
    template,
    verify,
)

GENESIS = genesis_header(0)
NOW = 1_000_000
POW = NakamotoSettings(difficulty=2, finality_depth=6)
MINERS = [miner_named("alice"), miner_named("bob")]
POA = NakamotoSettings(
    miners=["alice", "bob"],
    difficulty=2,
    min_interval_ms=100,
    interval_ms=1_000,
    take_over_ms=500,
    max_ahead_ms=100,
    finality_depth=6,
)


def rules_of(settings: NakamotoSettings) -> HeaderRules:
    miners = MINERS if settings.miners else []
    return HeaderRules(settings, chain_id=CHAIN_ID, miners=miners, verify=verify)


def branch(
    count: int, *, on: Sequence[Header] = (), name: bytes = b"x", after_ms: int = 1_000
) -> list[Header]:
    """Valid headers of a chain without turns, on others or on the genesis block."""
    headers = [*on] or [GENESIS]
    links = Tree(genesis_link(GENESIS, POW), rules_of(POW))
    for header in on:
        links.add(header, "")
    for number in range(count):
        parent = headers[-1]
        header = template(
            parent,
            name + b"%d" % number,
            timestamp_ms=max(parent.timestamp_ms, NOW - 10**6) + after_ms,
            author="ann",
        )
        headers.append(sealed(header, links.link(header_hash(parent)).child_target))
        links.add(headers[-1], "")
    return headers[len(on) or 1 :]


def names(headers: Sequence[Header]) -> list[bytes]:
    return [header_hash(header) for header in headers]


def fetched(effects: Sequence[NakamotoEffect]) -> list[bytes]:
    return [hash_ for effect in effects if isinstance(effect, FetchBlocks) for hash_ in effect.hashes]


class Story:
    """One engine and the effects of its last step, timers apart."""

    def __init__(
        self,
        settings: NakamotoSettings = POW,
        *,
        miner: str | None = None,
        root: Link | None = None,
        chain: Sequence[Header] = (),
    ) -> None:
        self.now_ms, self.waiting = NOW, 1
        self.timers: dict[str, int] = {}
        self.engine = Nakamoto(
            rules=rules_of(settings),
            root=root or genesis_link(GENESIS, settings),
            chain=chain,
            miner=miner,
            transactions_wait=lambda: self.waiting,
        )
        self.effects = self._take(self.engine.start(self.now_ms))

    def on(self, event: NakamotoEvent) -> list[NakamotoEffect]:
        self.effects = self._take(self.engine.on(self.now_ms, event))
        return self.effects

    def fire(self, timer: str) -> list[NakamotoEffect]:
        self.now_ms = max(self.now_ms, self.timers.pop(timer))
        return self.on(TimerFired(timer))

    def _take(self, effects: list[NakamotoEffect]) -> list[NakamotoEffect]:
        for effect in effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.timer] = effect.at_ms
        return [effect for effect in effects if not isinstance(effect, SetTimer)]

    def meets(self, *peers: str) -> None:
        for peer in peers:
            self.on(PeerJoined(peer))
            self.on(HeadersArrived(peer, True, []))

    def follows(self, headers: Sequence[Header], peer: str = "bob") -> None:
        """The peer gives headers and blocks, and the host switches as it is asked."""
        effects = [*self.on(PeerJoined(peer)), *self.on(HeaderAnnounced(peer, headers[-1]))]
        effects += self.on(HeadersArrived(peer, True, list(headers)))
        while effects:
            effects = [more for effect in effects for more in self._obey(effect, peer)]

    def _obey(self, effect: NakamotoEffect, peer: str) -> list[NakamotoEffect]:
        match effect:
            case FetchBlocks():
                return [more for hash_ in effect.hashes for more in self.on(BlockArrived(peer, hash_))]
            case SwitchHead():
                return self.on(HeadSwitched(effect.hash))
            case _:
                return []

    @property
    def head(self) -> bytes:
        return self.engine.head.hash


# Following


def test_a_new_node_asks_for_headers_then_blocks_then_switches() -> None:
    story = Story()
    chain = branch(3)
    one, two, three = names(chain)
    genesis = header_hash(GENESIS)
    assert story.on(PeerJoined("bob")) == [FetchHeaders("bob", [genesis])]
    assert story.on(HeadersArrived("bob", True, chain)) == [FetchBlocks("bob", [one, two, three])]
    assert story.on(BlockArrived("bob", two)) == []
    assert story.on(BlockArrived("bob", one)) == [SwitchHead(two, [], [one, two])]
    assert story.on(BlockArrived("bob", three)) == []
    assert story.on(HeadSwitched(two)) == [Announce(chain[1]), SwitchHead(three, [], [three])]
    assert story.on(HeadSwitched(three)) == [Announce(chain[2])]


def test_an_announced_block_is_fetched_from_who_announced_it() -> None:
    story = Story()
    chain = branch(2)
    story.follows(chain[:1])
    effects = story.on(HeaderAnnounced("bob", chain[1]))
    assert effects == [FetchBlocks("bob", [header_hash(chain[1])])]
    assert story.on(HeaderAnnounced("bob", chain[1])) == []


def test_announcements_that_overtake_each_other_wait_for_their_parents() -> None:
    story = Story()
    chain = branch(3)
    story.meets("bob")
    assert story.on(HeaderAnnounced("bob", chain[2])) == [FetchHeaders("bob", [header_hash(GENESIS)])]
    assert story.on(HeaderAnnounced("bob", chain[1])) == []
    assert story.on(HeaderAnnounced("bob", chain[0])) == [FetchBlocks("bob", names(chain))]


def test_a_longer_branch_is_switched_to_in_one_step() -> None:
    story = Story()
    common = branch(2)
    ours, theirs = branch(2, on=common, name=b"ours"), branch(3, on=common, name=b"theirs")
    story.follows([*common, *ours])
    story.meets("carol")
    story.on(HeaderAnnounced("carol", theirs[2]))
    effects = story.on(HeadersArrived("carol", True, theirs))
    assert [effect for effect in effects if isinstance(effect, FetchBlocks)]
    for hash_ in names(theirs)[:2]:
        assert story.on(BlockArrived("carol", hash_)) == []
    assert story.on(BlockArrived("carol", names(theirs)[2])) == [
        SwitchHead(names(theirs)[2], names(ours)[::-1], names(theirs))
    ]
    assert story.head == names(ours)[1]
    assert story.on(HeadSwitched(names(theirs)[2])) == [Announce(theirs[2])]
    assert story.head == names(theirs)[2]


def test_a_branch_of_the_same_weight_is_kept_but_not_switched_to() -> None:
    story = Story()
    ours, theirs = branch(2, name=b"ours"), branch(3, name=b"theirs")
    story.follows(ours)
    story.meets("carol")
    story.on(HeaderAnnounced("carol", theirs[1]))
    assert story.on(HeadersArrived("carol", True, theirs[:2])) == []
    assert story.engine.held["headers"] == 4
    effects = story.on(HeaderAnnounced("carol", theirs[2]))
    assert sorted(fetched(effects)) == sorted(names(theirs))


def test_an_invalid_block_ends_its_branch_and_the_best_valid_one_is_taken() -> None:
    story = Story()
    common = branch(1)
    good, bad = branch(2, on=common, name=b"good"), branch(4, on=common, name=b"bad")
    story.follows([*common, *good])
    story.on(PeerJoined("mallory"))
    story.on(HeadersArrived("mallory", True, bad))
    story.on(BlockArrived("mallory", names(bad)[0]))
    story.on(BlockArrived("mallory", names(bad)[1]))
    target = names(bad)[2]
    assert story.on(BlockArrived("mallory", target)) == [
        SwitchHead(target, names(good)[::-1], names(bad)[:3])
    ]
    assert story.on(SwitchRefused(target, names(bad)[1], Reason.ROOT_MISMATCH)) == [
        PenalisePeer("mallory", Reason.ROOT_MISMATCH),
        ForgetBlocks(names(bad)[1:3]),
    ]
    assert story.head == names(good)[1]
    assert story.on(HeaderAnnounced("mallory", branch(1, on=[*common, *bad])[0])) == [
        PenalisePeer("mallory", Reason.INVALID_PARENT)
    ]


def test_the_good_part_of_a_branch_is_taken_when_its_end_is_invalid() -> None:
    story = Story()
    chain = branch(3)
    story.on(PeerJoined("bob"))
    story.on(HeadersArrived("bob", True, chain))
    for hash_ in reversed(names(chain)):
        story.on(BlockArrived("bob", hash_))
    assert story.effects == [SwitchHead(names(chain)[2], [], names(chain))]
    effects = story.on(SwitchRefused(names(chain)[2], names(chain)[2], Reason.ROOT_MISMATCH))
    assert effects[-1] == SwitchHead(names(chain)[1], [], names(chain)[:2])


@pytest.mark.parametrize(("height", "final_height"), [(6, 0), (7, 1), (8, 2)])
def test_final_is_what_has_the_finality_depth_on_top(height: int, final_height: int) -> None:
    story = Story()
    story.follows(branch(height))
    assert (story.engine.head.height, story.engine.final.height) == (height, final_height)


def test_what_has_enough_on_top_is_final_and_its_rivals_are_forgotten() -> None:
    story = Story()
    chain, rival = branch(8), branch(2, name=b"rival")
    story.follows(chain[:1])
    story.on(HeaderAnnounced("bob", rival[0]))
    story.follows(chain)
    assert story.engine.final.hash == names(chain)[1]
    assert story.on(HeaderAnnounced("carol", rival[1])) == []
    assert story.engine.held["headers"] == 6


def test_finality_comes_with_what_a_restart_needs() -> None:
    story = Story()
    chain = branch(8)
    story.follows(chain[:7])
    story.on(HeaderAnnounced("bob", chain[7]))
    story.on(BlockArrived("bob", names(chain)[7]))
    announced, final = story.on(HeadSwitched(names(chain)[7]))
    assert announced == Announce(chain[7])
    assert isinstance(final, Finalize)
    again = Story(root=final.link, chain=chain[2:])
    assert (again.engine.head, again.engine.final) == (story.engine.head, story.engine.final)


def test_a_stored_chain_that_is_none_is_refused() -> None:
    chain = branch(2)
    with pytest.raises(Rejected):
        Story(chain=[chain[0], msgspec.structs.replace(chain[1], timestamp_ms=0)])


# Peers that are slow, wrong or lying


def test_a_block_that_does_not_come_is_asked_of_another_peer() -> None:
    story = Story()
    (header,) = branch(1)
    story.meets("bob", "carol")
    story.on(HeaderAnnounced("bob", header))
    story.on(HeaderAnnounced("carol", header))
    assert story.timers[STALL] == NOW + STALL_MS
    assert story.fire(STALL) == [FetchBlocks("carol", names([header]))]
    assert story.on(BlockMissed("carol", header_hash(header), Reason.ROOT_MISMATCH)) == [
        PenalisePeer("carol", Reason.ROOT_MISMATCH),
        FetchBlocks("bob", names([header])),
    ]


def test_a_block_without_a_place_is_not_kept() -> None:
    story = Story()
    assert story.on(BlockArrived("bob", bytes(32))) == [ForgetBlocks([bytes(32)])]


def test_a_second_copy_of_what_is_final_changes_nothing() -> None:
    story = Story()
    chain = branch(8)
    story.follows(chain)
    assert story.on(BlockArrived("bob", story.engine.final.hash)) == []
    assert story.on(BlockArrived("bob", names(chain)[-1])) == []


def test_the_same_full_answer_again_is_not_followed_by_another_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules_module, "MAX_HEADERS", 2)
    story = Story()
    chain = branch(2)
    story.on(PeerJoined("mallory"))
    effects = story.on(HeadersArrived("mallory", True, chain))
    assert [type(effect) for effect in effects] == [FetchBlocks, FetchHeaders]
    assert story.on(HeadersArrived("mallory", True, chain)) == []


def test_headers_that_are_withheld_do_not_keep_others_away() -> None:
    """More than are looked at together, and each of them heavier than the head."""
    story = Story()
    (first,) = branch(1)
    story.follows([first])
    withheld = [branch(1, on=[first], name=b"w%d" % n)[0] for n in range(rules_module.MAX_BRANCHES + 4)]
    for header in withheld:
        story.on(HeaderAnnounced("bob", header))
    (good,) = branch(1, on=[first], name=b"good")
    story.meets("carol")
    effects = story.on(HeaderAnnounced("carol", good))
    assert header_hash(good) in fetched(effects)
    effects = story.on(BlockArrived("carol", header_hash(good)))
    assert effects[0] == SwitchHead(header_hash(good), [], names([good]))


def test_a_lighter_branch_is_no_lie_and_its_blocks_are_not_asked_for() -> None:
    story = Story()
    story.follows(branch(3, name=b"ours"))
    story.on(PeerJoined("carol"))
    lighter = branch(2, name=b"lighter")
    assert story.on(HeadersArrived("carol", True, lighter)) == []
    assert story.engine.held["headers"] == 3
    assert story.on(HeaderAnnounced("carol", lighter[1])) == []
    story.now_ms += QUIET_MS
    assert [type(effect) for effect in story.on(HeaderAnnounced("carol", lighter[1]))] == [FetchHeaders]


def test_a_full_answer_that_is_still_lighter_is_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    story.follows(branch(3, name=b"ours"))
    monkeypatch.setattr(rules_module, "MAX_HEADERS", 2)
    story.on(PeerJoined("mallory"))
    effects = story.on(HeadersArrived("mallory", True, branch(2, name=b"flood")))
    assert effects == [PenalisePeer("mallory", Reason.NOT_ENOUGH_WORK)]


def test_a_full_answer_is_followed_by_the_next_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "MAX_HEADERS", 2)
    story = Story()
    chain = branch(4)
    story.on(PeerJoined("bob"))
    one, two, *_ = names(chain)
    assert story.on(HeadersArrived("bob", True, chain[:2])) == [
        FetchBlocks("bob", [one, two]),
        FetchHeaders("bob", [two, one, header_hash(GENESIS)]),
    ]


def test_an_answer_that_nobody_asked_for_is_not_read() -> None:
    story = Story()
    story.meets("mallory")
    assert story.on(HeadersArrived("mallory", True, branch(3))) == []


def test_a_header_from_the_future_is_neither_taken_nor_a_lie() -> None:
    story = Story()
    (late,) = branch(1, after_ms=10**6 + POW.max_ahead_ms + 1)
    story.meets("bob")
    assert story.on(HeaderAnnounced("bob", late)) == []
    story.now_ms += 1
    assert story.on(HeaderAnnounced("bob", late)) == [FetchBlocks("bob", names([late]))]


def test_a_branch_that_left_ours_below_the_final_block_is_reported_once_and_held_against_nobody() -> None:
    """The lighter side of a cut that was shorter than the finality depth shows its head before it comes over."""
    story = Story()
    story.follows(branch(8))
    foreign = branch(9, name=b"foreign")
    story.meets("carol")
    assert [type(effect) for effect in story.on(HeaderAnnounced("carol", foreign[-1]))] == [FetchHeaders]
    assert story.on(HeadersArrived("carol", False, [])) == [PartedBelowFinal("carol")]
    assert story.engine.held["orphans"] == 0
    story.now_ms += QUIET_MS
    assert [type(effect) for effect in story.on(HeaderAnnounced("carol", foreign[-1]))] == [FetchHeaders]
    assert story.on(HeadersArrived("carol", False, [])) == []


def test_an_answer_that_begins_below_what_became_final_meanwhile_is_held_against_nobody() -> None:
    story = Story()
    story.follows(branch(8))
    story.meets("carol")
    story.on(HeaderAnnounced("carol", branch(9, name=b"foreign")[-1]))
    assert story.on(HeadersArrived("carol", True, branch(9, name=b"foreign"))) == [PartedBelowFinal("carol")]


def test_a_peer_that_has_not_come_so_far_is_no_liar() -> None:
    story = Story()
    story.follows(branch(8))
    story.on(PeerJoined("carol"))
    assert story.on(HeadersArrived("carol", False, [])) == []


def test_somebody_is_asked_now_and_then_in_case_an_announcement_was_lost() -> None:
    story = Story()
    story.meets("bob", "carol")
    asked = [effect.peer for _ in range(3) for effect in story.fire(POLL) if isinstance(effect, FetchHeaders)]
    assert asked == ["bob", "carol", "bob"]


def test_requests_of_a_peer_that_left_move_on() -> None:
    story = Story()
    (header,) = branch(1)
    story.meets("bob", "carol")
    story.on(HeaderAnnounced("bob", header))
    story.on(HeaderAnnounced("carol", header))
    assert story.on(PeerLeft("bob")) == [FetchBlocks("carol", names([header]))]


def test_links_beyond_the_maximum_are_not_kept_account_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "MAX_PEERS", 1)
    story = Story()
    story.meets("bob")
    assert story.on(PeerJoined("carol")) == []
    assert story.engine.held["peers"] == 1


def test_a_step_forward_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "MAX_APPLY", 2)
    story = Story()
    chain = branch(5)
    story.on(PeerJoined("bob"))
    story.on(HeadersArrived("bob", True, chain))
    for hash_ in reversed(names(chain)):
        story.on(BlockArrived("bob", hash_))
    assert story.effects == [SwitchHead(names(chain)[1], [], names(chain)[:2])]


def test_an_answer_has_room_for_twice_the_finality_depth() -> None:
    assert contract.MAX_HEADERS >= 2 * MAX_FINALITY_DEPTH


# Mining


def built(story: Story, parent: Header, *, author: str, body: bytes = b"tx") -> Header:
    """What the host makes of the last BuildBlock."""
    (ask,) = [effect for effect in story.effects if isinstance(effect, BuildBlock)]
    assert ask.parent == header_hash(parent)
    return template(parent, body, timestamp_ms=ask.timestamp_ms, author=author)


def test_a_miner_alone_waits_a_while_then_builds_searches_and_switches() -> None:
    story = Story(miner="ann")
    assert story.effects == []
    assert story.timers["pace"] == NOW + HOLD_MS
    assert story.fire("pace") == [BuildBlock(header_hash(GENESIS), NOW + HOLD_MS)]
    header = built(story, GENESIS, author="ann")
    digest = search_digest(template_digest(header), b"")
    target = story.engine.head.child_target
    assert story.on(TemplateBuilt(header, 1)) == [Mine(digest, target)]
    done = sealed(header, target)
    nonce = search(digest, target)
    assert story.on(NonceFound(digest, nonce)) == [
        SealBlock(template_digest(header), done),
        SwitchHead(header_hash(done), [], [header_hash(done)]),
    ]
    assert story.on(HeadSwitched(header_hash(done))) == [Announce(done)]
    assert story.fire("pace") == [BuildBlock(header_hash(done), done.timestamp_ms + 1)]


def test_a_miner_whose_peers_have_nothing_new_begins_at_once() -> None:
    story = Story(miner="ann")
    story.on(PeerJoined("bob"))
    assert story.on(HeadersArrived("bob", True, [])) == [BuildBlock(header_hash(GENESIS), NOW)]


def test_a_miner_that_catches_up_does_not_mine_meanwhile() -> None:
    story = Story(miner="ann")
    chain = branch(5)
    story.follows(chain)
    assert story.head == names(chain)[-1]
    assert not any(isinstance(effect, BuildBlock) for effect in story.effects)
    assert story.fire("pace") == [BuildBlock(names(chain)[-1], NOW + HOLD_MS)]


def searching(story: Story) -> Header:
    """A miner at work on the genesis block."""
    story.on(PeerJoined("bob"))
    story.on(HeadersArrived("bob", True, []))
    header = built(story, GENESIS, author="ann")
    story.on(TemplateBuilt(header, 1))
    return header


def test_a_new_head_ends_the_search_and_begins_the_next() -> None:
    story = Story(miner="ann")
    header = searching(story)
    (theirs,) = branch(1)
    story.on(HeaderAnnounced("bob", theirs))
    story.on(BlockArrived("bob", header_hash(theirs)))
    assert story.on(HeadSwitched(header_hash(theirs))) == [
        Announce(theirs),
        StopMining(),
        BuildBlock(header_hash(theirs), NOW),
    ]
    late = search_digest(template_digest(header), b"")
    assert story.on(NonceFound(late, 0)) == []


def test_new_transactions_make_a_new_template_now_and_then() -> None:
    story = Story(miner="ann")
    header = searching(story)
    assert story.timers["pace"] == NOW + TEMPLATE_MS
    assert story.on(TransactionsArrived()) == []
    assert story.timers["pace"] == NOW + REFRESH_MS
    assert story.fire("pace") == [BuildBlock(header_hash(GENESIS), NOW + REFRESH_MS)]
    # Until the new template is there, the old one may still be found.
    digest = search_digest(template_digest(header), b"")
    nonce = search(digest, story.engine.head.child_target)
    assert isinstance(story.on(NonceFound(digest, nonce))[0], SealBlock)


def test_an_old_template_is_made_anew_for_its_timestamp() -> None:
    story = Story(miner="ann")
    searching(story)
    assert story.fire("pace") == [BuildBlock(header_hash(GENESIS), NOW + TEMPLATE_MS)]


def test_without_empty_blocks_a_miner_waits_for_transactions() -> None:
    story = Story(msgspec.structs.replace(POW, empty_blocks=False), miner="ann")
    story.waiting = 0
    story.on(PeerJoined("bob"))
    assert story.on(HeadersArrived("bob", True, [])) == []
    story.waiting = 1
    assert story.on(TransactionsArrived()) == [BuildBlock(header_hash(GENESIS), NOW)]
    # What waited turned out to be nothing that a block can hold.
    assert story.on(TemplateBuilt(built(story, GENESIS, author="ann", body=b""), 0)) == []
    assert story.on(HeaderAnnounced("bob", GENESIS)) == []
    assert story.on(TransactionsArrived()) == [BuildBlock(header_hash(GENESIS), NOW)]


def test_an_empty_block_waits_for_the_interval() -> None:
    story = Story(msgspec.structs.replace(POW, interval_ms=NOW + 5_000), miner="ann")
    story.waiting = 0
    story.on(PeerJoined("bob"))
    assert story.on(HeadersArrived("bob", True, [])) == []
    assert story.timers["pace"] == NOW + 5_000
    assert story.fire("pace") == [BuildBlock(header_hash(GENESIS), NOW + 5_000)]
    empty = built(story, GENESIS, author="ann", body=b"")
    assert [type(effect) for effect in story.on(TemplateBuilt(empty, 0))] == [Mine]


def test_few_transactions_wait_for_the_interval_and_enough_do_not() -> None:
    settings = msgspec.structs.replace(POW, interval_ms=NOW + 7_000, min_transactions=3, empty_blocks=False)
    story = Story(settings, miner="ann")
    story.waiting = 0
    story.on(PeerJoined("bob"))
    assert story.on(HeadersArrived("bob", True, [])) == []
    story.waiting = 2
    assert story.on(TransactionsArrived()) == []
    assert story.timers["pace"] == NOW + 7_000
    story.waiting = 3
    assert story.on(TransactionsArrived()) == [BuildBlock(header_hash(GENESIS), NOW)]
    # One of the three turned out to be none that a block can hold.
    assert story.on(TemplateBuilt(built(story, GENESIS, author="ann"), 2)) == []
    assert story.fire("pace") == [BuildBlock(header_hash(GENESIS), NOW + 7_000)]
    few = built(story, GENESIS, author="ann")
    assert [type(effect) for effect in story.on(TemplateBuilt(few, 2))] == [Mine]


# Turns


def turn_story(miner: str, *, genesis_age_ms: int) -> tuple[Story, Header]:
    """A miner of two, on a genesis block of that age, that has just heard a peer without news."""
    genesis = genesis_header(NOW - genesis_age_ms)
    story = Story(POA, miner=miner, root=genesis_link(genesis, POA))
    story.on(PeerJoined("peer"))
    story.on(HeadersArrived("peer", True, []))
    return story, genesis


def test_the_leader_signs_its_template_before_it_searches() -> None:
    story, genesis = turn_story("alice", genesis_age_ms=200)
    header = built(story, genesis, author="alice")
    digest = template_digest(header)
    assert story.on(TemplateBuilt(header, 1)) == [SignTemplate(digest)]
    signature = sign(MINERS[0].auth_key, digest)
    target = story.engine.head.child_target
    found = search_digest(digest, signature)
    assert story.on(TemplateSigned(digest, signature)) == [Mine(found, target)]
    done = sealed(header, target, auth_key=MINERS[0].auth_key)
    assert story.on(NonceFound(found, search(found, target)))[0] == SealBlock(digest, done)


def test_the_second_takes_over_when_the_leaders_turn_is_over() -> None:
    story, genesis = turn_story("bob", genesis_age_ms=200)
    assert story.effects == []
    assert story.timers["pace"] == genesis.timestamp_ms + POA.interval_ms + POA.take_over_ms
    takes_over = story.fire("pace")
    assert takes_over == [BuildBlock(header_hash(genesis), genesis.timestamp_ms + 1_500)]


def test_a_leader_stops_when_its_turn_is_over() -> None:
    story, genesis = turn_story("alice", genesis_age_ms=1_400)
    header = built(story, genesis, author="alice")
    digest = template_digest(header)
    story.on(TemplateBuilt(header, 1))
    story.on(TemplateSigned(digest, sign(MINERS[0].auth_key, digest)))
    assert story.timers["pace"] == genesis.timestamp_ms + 1_500
    assert story.fire("pace") == [StopMining()]
    assert story.timers["pace"] == genesis.timestamp_ms + 2_000


def test_who_is_not_listed_never_mines() -> None:
    story, _ = turn_story("mallory", genesis_age_ms=10_000)
    assert (story.effects, story.timers.get("pace")) == ([], None)


def test_a_chain_that_slept_goes_on_where_it_stopped() -> None:
    """With a greatest interval: the time of the chain lags behind, in a turn that everybody can check."""
    bounded = msgspec.structs.replace(POA, max_interval_ms=2_000)
    genesis = genesis_header(NOW - 10**6)
    for miner, timestamp_ms in (("alice", 2_000), ("bob", 1_500)):
        story = Story(bounded, miner=miner, root=genesis_link(genesis, bounded))
        story.on(PeerJoined("peer"))
        (ask,) = story.on(HeadersArrived("peer", True, []))
        assert isinstance(ask, BuildBlock)
        assert ask.timestamp_ms - genesis.timestamp_ms == timestamp_ms
        header = template(genesis, b"tx", timestamp_ms=ask.timestamp_ms, author=miner)
        key = miner_named(miner).auth_key
        rules_of(bounded).check(
            sealed(header, story.engine.head.child_target, auth_key=key), story.engine.head
        )
