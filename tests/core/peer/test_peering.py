"""How nodes meet, stay together and part, told as stories of a village in virtual time."""

import random

import pytest

from aitbc.core.peer.addresses import LOCAL
from aitbc.core.peer.book import AddressBook
from aitbc.core.peer.frames import Type, frame
from aitbc.core.peer.gossip import Verdict
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    CERTIFICATE,
    CONSENSUS_GET,
    HELLO,
    PING,
    VOTE,
    Hello,
    Lane,
    PeerAddress,
    Ping,
    Status,
    Welcome,
    Wids,
    pack_answer,
    pack_message,
)
from aitbc.core.peer.links import Clogged, Close, Dial, DialFailed, Linked, Received, Send, Throttle, Unlinked
from aitbc.core.peer.peering import HELLO_MS, MAX_BUFFERED, Peering
from aitbc.core.peer.peers import (
    ConfiguredPeer,
    Heard,
    PeerDown,
    PeerSettings,
    PeerUp,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.peer.reasons import PeerReason
from support.village import SETTINGS_HASH, START_MS, STATUS, Village, Villager, where_of


def meet(**settings: object) -> tuple[Village, Villager, Villager]:
    """Alice, who knows of Bob."""
    village = Village()
    bob = village.add("bob", "20.1.0.1:7070")
    alice = village.add("alice", "20.2.0.1:7070", bootstrap=(bob.where,), **settings)
    return village, alice, bob


def test_two_nodes_meet() -> None:
    village, alice, bob = meet()
    village.run(2)
    assert (alice.friends, bob.friends) == ({"bob"}, {"alice"})
    (up,) = alice.of(PeerUp)
    assert (up.key, up.hello.agent, up.hello.status) == (bob.key, "bob", STATUS)
    assert village.dials == [("alice", bob.where)]


def test_a_node_that_the_operator_names_is_dialled_at_once() -> None:
    """And is in the address book, which tries it again when nobody was there."""
    village = Village()
    bob = village.add("bob", "20.1.0.1:7070")
    alice = village.add("alice", "20.2.0.1:7070")
    village.run(2)
    assert alice.friends == set()
    alice.network.name(alice.now_ms, bob.where)
    alice.network.name(alice.now_ms, "20.3.0.1:7070")
    village.run(2)
    assert alice.friends == {"bob"}
    assert village.dials[:2] == [("alice", bob.where), ("alice", "20.3.0.1:7070")]
    assert {where for _, where in village.dials[2:]} <= {"20.3.0.1:7070"}


def test_the_peer_table_shows_who_is_there() -> None:
    village, alice, bob = meet()
    village.run(20)
    (seen,) = alice.network.view(alice.now_ms)
    assert (seen.key, seen.where, seen.outbound, seen.agent) == (bob.key.hex(), bob.where, True, "bob")
    assert seen.latency_ms == 40
    assert (seen.points, seen.head_height, seen.clock_skew_ms) == (0, 1, -20)
    (seen,) = bob.network.view(bob.now_ms)
    assert (seen.outbound, seen.agent) == (False, "alice")


def test_heartbeats_tell_how_far_everybody_is() -> None:
    village, alice, bob = meet()
    village.run(2)
    bob.network.set_status(Status(head_height=9, head_hash=bytes(32), finalised_height=8))
    village.run(16)
    status = alice.network.status_of(bob.key)
    assert status is not None and status.head_height == 9


MISFITS = [
    ("another version", {"version_min": 3, "version_max": 4}, 0, PeerReason.NO_COMMON_VERSION),
    ("an overlapping version", {"version_min": 1, "version_max": 3}, 0, None),
    ("other settings", {"settings_hash": b"t" * 32}, 0, PeerReason.OTHER_SETTINGS),
    ("a clock half a minute ahead", {}, 30_100, PeerReason.CLOCK_SKEW),
    ("a clock half a minute behind", {}, -30_100, PeerReason.CLOCK_SKEW),
    ("a clock a little off", {}, 20_000, None),
]


@pytest.mark.parametrize(
    ("settings", "offset_ms", "reason"), [case[1:] for case in MISFITS], ids=[case[0] for case in MISFITS]
)
def test_who_does_not_fit_is_told_why(
    settings: dict[str, object], offset_ms: int, reason: PeerReason | None
) -> None:
    village = Village()
    bob = village.add("bob", "20.1.0.1:7070")
    alice = village.add("alice", "20.2.0.1:7070", bootstrap=(bob.where,), **settings)
    alice.clock_offset_ms = offset_ms
    village.run(2)
    if reason is None:
        assert alice.friends == {"bob"}
    else:
        assert (alice.friends, bob.friends) == (set(), set())
        assert Refusal(bob.key, PeerReason.REFUSED, str(reason)) in alice.events


def test_a_refused_dialler_is_closed_and_tries_the_listed_peers() -> None:
    """Seed 004: the boot node is full; it says so, and who else there is."""
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=1)
    for number in range(1, 4):
        village.add(f"early{number}", where_of(number), bootstrap=(boot.where,), max_peers=4)
        village.run(3)
    late = village.add("late", where_of(9), bootstrap=(boot.where,), max_peers=4)
    village.run(1)
    assert late.refusals[PeerReason.REFUSED] == 1 or late.friends
    village.run(30)
    assert len(late.friends) >= 2 and late.friends != {"boot"}
    assert len(boot.friends) <= 2


@pytest.mark.parametrize("count", [12, 30])
def test_a_village_finds_itself_and_nobody_is_crowded(count: int) -> None:
    """Seed 004: never below half of the maximum when more can be found, never above double."""
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=8)
    for number in range(1, count):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=8)
        village.run(0.2)
        assert all(len(person.friends) <= 16 for person in village.people.values())
    village.run(90)
    sizes = {name: len(person.friends) for name, person in village.people.items()}
    assert min(sizes.values()) >= 4, sizes
    assert max(sizes.values()) <= 16, sizes
    village.run(60)
    assert max(len(person.friends) for person in village.people.values()) <= 16
    reached, frontier = {"boot"}, ["boot"]
    while frontier:
        for friend in village.people[frontier.pop()].friends - reached:
            reached.add(friend)
            frontier.append(friend)
    assert len(reached) == count, "one network, no islands"


def test_a_newcomer_finds_a_place_where_everybody_has_enough_peers() -> None:
    """Everybody's youngest peer was everybody's first to go: it was let in and thrown out again each second."""
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=6)
    for number in range(1, 14):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=6)
    village.run(120)
    late = village.add("late", where_of(20), bootstrap=(boot.where,), max_peers=6)
    village.run(15)
    assert len(late.friends) >= 3
    village.run(60)
    assert len(late.of(PeerDown)) <= 1 and len(late.friends) >= 3, (
        "at most its first one had no place to spare"
    )


def test_a_node_that_crashes_is_replaced() -> None:
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=6)
    for number in range(1, 12):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=6)
    village.run(60)
    lost = [village.people[name] for name in ("n1", "n2", "n3", "n4")]
    for person in lost:
        person.crash()
    village.run(60)
    for person in village.people.values():
        if person.alive:
            assert len(person.friends) >= 3
            assert not person.friends & {"n1", "n2", "n3", "n4"}


def test_both_dial_at_once_and_one_connection_stays() -> None:
    village = Village()
    one, two = "20.1.0.1:7070", "20.2.0.1:7070"
    alice = village.add("alice", one, bootstrap=(two,))
    bob = village.add("bob", two, bootstrap=(one,))
    village.run(8)
    assert len(village.dials) == 2, "they do not dial each other again"
    assert (alice.friends, bob.friends) == ({"bob"}, {"alice"})
    (seen,) = alice.network.view(alice.now_ms)
    assert seen.outbound, "what the smaller key dialled stays"
    village.run(200)
    assert len(village.dials) == 2


def test_a_peer_that_restarted_replaces_its_dead_connection() -> None:
    village, alice, bob = meet()
    village.run(20)
    village.blocked = lambda a, b: True
    alice.crash()
    village.run(1)
    assert bob.friends == {"alice"}, "he cannot know"
    village.blocked = lambda a, b: False
    bob.transport._notice = lambda end, where: None  # type: ignore[method-assign]
    bob_links = len(bob.of(PeerUp))
    village.add("alice", "20.2.0.1:7070", bootstrap=(bob.where,))
    village.run(3)
    assert bob.friends == {"alice"}
    assert len(bob.of(PeerUp)) == bob_links + 1


def test_a_node_that_finds_itself_does_not_try_again() -> None:
    village = Village()
    alice = village.add("alice", "20.2.0.1:7070", bootstrap=("20.2.0.1:7070",))
    village.run(120)
    assert alice.friends == set()
    assert village.dials == [("alice", "20.2.0.1:7070")]


def test_a_bootstrap_peer_that_is_away_is_asked_ever_more_rarely() -> None:
    village = Village()
    village.add("alice", "20.2.0.1:7070", bootstrap=("20.9.0.1:7070",))
    village.run(600)
    assert 8 <= len(village.dials) <= 18
    village.add("bob", "20.9.0.1:7070")
    village.run(64)
    assert village.people["alice"].friends == {"bob"}


def test_a_book_full_of_the_dead_does_not_keep_a_node_from_its_bootstrap_peer() -> None:
    """There is always somebody left to dial in such a book, so nobody may wait until nothing is being dialled."""
    village = Village()
    village.add("boot", where_of(0))
    book = AddressBook(b"s" * 32)
    for number in range(200):
        dead = PeerAddress(f"{80 + number // 100}.{number % 100}.0.1:7070", b"")
        book.hear(dead, source=f"v4 9.{number}", now_ms=village.time.now_ms)
    boot = village.people["boot"]
    village.switch.latency_ms = lambda _, to: (
        20 if to.startswith("20.") else 500 + sum(to.encode()) * 37 % 997
    )
    boot.transport.stop_now()
    lonely = village.add("l", where_of(1), bootstrap=(boot.where,), book=book.to_record([]))
    village.run(5)
    village.add("boot again", boot.where)
    village.run(15)
    assert lonely.friends == {"boot again"}


def test_a_bootstrap_peer_without_a_place_is_asked_ever_more_rarely() -> None:
    village = Village()
    village.add("boot", where_of(0), max_peers=1)
    village.add("first", where_of(1), bootstrap=(where_of(0),), listens=False, max_peers=1)
    village.run(5)
    village.add("second", where_of(2), bootstrap=(where_of(0),), listens=False, max_peers=1)
    village.run(120)
    assert 5 <= village.dials.count(("second", where_of(0))) <= 9, "1 s, doubling"


def test_a_cut_and_a_heal() -> None:
    """Nothing is heard over a cut cable: idle peers are dropped within a minute and found again."""
    village, alice, bob = meet()
    village.run(5)
    village.blocked = lambda a, b: True
    village.run(75)
    assert (alice.friends, bob.friends) == (set(), set())
    assert alice.of(PeerDown)[0].reason is PeerReason.IDLE
    village.blocked = lambda a, b: False
    village.run(70)
    assert alice.friends == {"bob"}


def test_a_short_cut_loses_nothing() -> None:
    """Ten seconds without a road: what was said in between arrives, in order, over the same connection."""
    village, alice, bob = meet()
    village.run(5)
    village.blocked = lambda a, b: True
    for number in range(3):
        alice.perform(alice.network.say(alice.now_ms, bob.key, VOTE, b"vote %d" % number))
        village.run(3)
    assert bob.heard == []
    village.blocked = lambda a, b: False
    village.run(1)
    assert bob.heard == [(VOTE.name, b"vote %d" % number) for number in range(3)]
    village.run(60)
    assert len(alice.of(PeerUp)) == 1 and not alice.of(PeerDown)
    assert alice.network.view(alice.now_ms)[0].points <= 1


def test_configured_peers_meet_although_everybody_is_full() -> None:
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=1)
    for number in range(1, 5):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=2)
    village.run(10)
    wheres = [where_of(number) for number in (20, 21, 22)]
    mesh = [ConfiguredPeer(where, f"v{n}".encode().ljust(32, b".")) for n, where in enumerate(wheres)]
    for number, where in enumerate(wheres):
        village.add(f"v{number}", where, configured=mesh, max_peers=1)
    boot.network.configure(mesh)
    village.run(20)
    for number in range(3):
        others = {f"v{other}" for other in range(3)} - {f"v{number}"}
        assert village.people[f"v{number}"].friends >= others
        assert all(
            view.configured for view in village.people[f"v{number}"].network.view(0) if view.agent in others
        )
    village.run(120)
    assert village.people["v0"].friends >= {"v1", "v2"}


def test_a_stopping_node_says_goodbye() -> None:
    village, alice, bob = meet()
    village.run(2)
    bob.perform(bob.network.stop(bob.now_ms))
    village.run(1)
    assert alice.friends == set()
    assert Refusal(bob.key, PeerReason.LOST, "it left: leaving") in alice.events


def test_what_is_known_outlives_a_restart() -> None:
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=4)
    for number in range(1, 8):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=4)
    village.run(60)
    alice = village.people["n3"]
    record = alice.network.record()
    assert record.anchors and len(record.entries) >= 3
    alice.crash()
    boot.crash()
    again = village.add("n3", where_of(3), book=record, max_peers=4)
    village.dials.clear()
    village.run(5)
    assert len(again.friends) >= 2, "without any bootstrap peer"


def test_tested_addresses_are_remembered_as_tried() -> None:
    """A feeler knocks, hears hello, and leaves."""
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=2)
    for number in range(1, 9):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=2)
    village.run(1_000)
    tried = [entry.where for entry in boot.network.record().entries if entry.tried]
    assert len(tried) > 2
    assert any(
        isinstance(event, Refusal) and event.message == "it left: feeler"
        for person in village.people.values()
        for event in person.events
    )


# Requests


def test_a_request_and_its_answer() -> None:
    village, alice, bob = meet()
    bob.reply = lambda request: b"you said " + request.message
    village.run(2)
    alice.perform(alice.network.ask(alice.now_ms, bob.key, CONSENSUS_GET, b"block 5", ticket=42))
    village.run(1)
    assert alice.of(Replied) == [Replied(bob.key, 42, CONSENSUS_GET, b"you said block 5")]


UNANSWERED = [
    ("refused", PeerReason.UNAVAILABLE, 1, PeerReason.REFUSED),
    ("silent", None, 11, PeerReason.NO_ANSWER),
]


@pytest.mark.parametrize(
    ("reply", "seconds", "reason"), [case[1:] for case in UNANSWERED], ids=[case[0] for case in UNANSWERED]
)
def test_a_request_without_answer(reply: PeerReason | None, seconds: int, reason: PeerReason) -> None:
    village, alice, bob = meet()
    bob.reply = lambda _: reply
    village.run(2)
    alice.perform(alice.network.ask(alice.now_ms, bob.key, CONSENSUS_GET, b"?", ticket=1))
    village.run(seconds)
    assert [(event.ticket, event.reason) for event in alice.of(Unreplied)] == [(1, reason)]


def test_requests_end_with_the_connection() -> None:
    village, alice, bob = meet()
    village.run(2)
    alice.perform(alice.network.ask(alice.now_ms, bob.key, CONSENSUS_GET, b"?", ticket=1))
    bob.crash()
    village.run(1)
    assert [(event.ticket, event.reason) for event in alice.of(Unreplied)] == [(1, PeerReason.LOST)]
    alice.perform(alice.network.ask(alice.now_ms, bob.key, CONSENSUS_GET, b"?", ticket=2))
    assert [(event.ticket, event.reason) for event in alice.of(Unreplied)][1:] == [(2, PeerReason.LOST)]


def test_an_answer_to_an_old_connection_goes_nowhere() -> None:
    village, alice, bob = meet()
    village.run(2)
    alice.perform(alice.network.ask(alice.now_ms, bob.key, CONSENSUS_GET, b"old", ticket=1))
    village.run(0.1)
    (request,) = bob.of(Requested)
    alice.crash()
    again = village.add("alice", alice.where, bootstrap=(bob.where,))
    village.run(2)
    again.perform(again.network.ask(again.now_ms, bob.key, CONSENSUS_GET, b"new", ticket=2))
    village.run(0.1)
    bob.perform(bob.network.answer(request, b"answer to old"))
    village.run(1)
    assert again.of(Replied) == []


# One stranger at a time, byte by byte: nobody but us is honest here.

US = b"u" * 32
SETTINGS = PeerSettings(key=US, settings_hash=SETTINGS_HASH, agent="us", max_peers=4)


def hello(**changes: object) -> Hello:
    fields = {
        "version_min": 2,
        "version_max": 2,
        "settings_hash": SETTINGS_HASH,
        "status": STATUS,
        "clock_ms": START_MS,
        "listen": "",
        "agent": "stranger",
        "features": [],
    }
    return Hello(**(fields | changes))  # type: ignore[arg-type]


class Stranger:
    """Connects to us and sends whatever it likes."""

    links = 0

    def __init__(
        self, peering: Peering, key: bytes, where: str = "66.6.6.6:666", now_ms: int = START_MS
    ) -> None:
        Stranger.links += 1
        self.peering, self.key, self.link, self.now_ms = peering, key, Stranger.links, now_ms
        self.effects: list[object] = [*peering.step(now_ms, Linked(self.link, key, where, None))]

    def send(self, data: bytes) -> list[object]:
        effects = [*self.peering.step(self.now_ms, Received(self.link, data))]
        self.effects += effects
        return effects

    def greet(self) -> "Stranger":
        payload = pack_message(HELLO, hello(clock_ms=self.now_ms))
        self.send(frame(Type.REQUEST, 1, HELLO.wire, payload))
        return self

    @property
    def is_here(self) -> bool:
        """Whatever others who came later made of it."""
        link = self.peering._links.get(self.link)
        return link is not None and not link.ending()

    def ended(self) -> PeerReason | None:
        for effect in self.effects:
            if isinstance(effect, Close) and effect.link == self.link:
                return effect.reason
        return None


def us(**changes: object) -> Peering:
    configured = changes.pop("configured", ())
    return Peering(SETTINGS, status=STATUS, secret=bytes(32), configured=configured)  # type: ignore[arg-type]


OFFENCES = [
    ("a bad frame", b"\xff" * 9, 2, PeerReason.FRAME_TOO_LARGE),
    (
        "an oversized vote",
        frame(Type.PLAIN, 1, VOTE.wire, bytes(2_049))[:60],
        2,
        PeerReason.PAYLOAD_TOO_LARGE,
    ),
    ("a payload that is no record", frame(Type.REQUEST, 9, PING.wire, b"\xc1"), 2, PeerReason.BAD_PAYLOAD),
    ("answers that nobody asked for", frame(Type.ANSWER, 9, b"", b""), 10, PeerReason.UNSOLICITED_ANSWER),
    ("hellos again and again", frame(Type.REQUEST, 9, HELLO.wire, b""), 2, PeerReason.BAD_PAYLOAD),
]


@pytest.mark.parametrize(
    ("data", "times", "reason"), [case[1:] for case in OFFENCES], ids=[case[0] for case in OFFENCES]
)
def test_who_goes_on_is_banned(data: bytes, times: int, reason: PeerReason) -> None:
    peering = us()
    for _ in range(times):
        stranger = Stranger(peering, b"evil" * 8).greet()
        for _ in range(times):
            if stranger.ended() is None:
                stranger.send(data)
        if stranger.ended() is not None:
            peering.step(START_MS, Unlinked(stranger.link, PeerReason.LOST, ""))
        if peering.scores.banned(START_MS, key=b"evil" * 8):
            break
    assert peering.scores.banned(START_MS, key=b"evil" * 8)
    assert any(isinstance(effect, Refusal) and effect.reason is reason for effect in stranger.effects)
    assert Stranger(peering, b"evil" * 8).ended() is PeerReason.BANNED
    assert not peering.admits("66.6.6.6:1", START_MS), "its address neither"
    assert peering.admits("66.6.6.7:1", START_MS), "its neighbour may"
    later = START_MS + 24 * 3_600_000
    assert Stranger(peering, b"evil" * 8, now_ms=later).greet().ended() is None


def test_a_configured_peer_is_throttled_and_never_banned() -> None:
    peering = us(configured=[ConfiguredPeer("", b"evil" * 8)])
    stranger = Stranger(peering, b"evil" * 8).greet()
    effects = [effect for _ in range(30) for effect in stranger.send(frame(Type.ANSWER, 9, b"", b""))]
    assert sum(isinstance(effect, Throttle) for effect in effects) >= 2
    assert stranger.ended() is None
    assert peering.admits("66.6.6.6:1", START_MS)


def test_points_are_forgotten_by_half_each_quarter_of_an_hour() -> None:
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    for _ in range(8):
        stranger.send(frame(Type.ANSWER, 9, b"", b""))
    points = [
        peering.scores.points(b"x" * 32, START_MS + minutes * 60_000) for minutes in (0, 14, 15, 30, 105)
    ]
    assert points == [80, 80, 40, 20, 0]


def test_nothing_but_hello_before_hello() -> None:
    stranger = Stranger(us(), b"x" * 32)
    payload = pack_message(PING, Ping(1, STATUS))
    stranger.send(frame(Type.REQUEST, 1, PING.wire, payload))
    assert stranger.ended() is PeerReason.NOT_INTRODUCED


def test_a_stranger_may_ask_for_peers_before_hello() -> None:
    stranger = Stranger(us(), b"x" * 32)
    (answer,) = stranger.send(frame(Type.REQUEST, 1, b"p2p:get_peers", b""))
    assert answer == Send(stranger.link, frame(Type.ANSWER, 1, b"", b"\x91\x90"), Lane.URGENT)


def test_local_addresses_are_told_to_local_nodes_only() -> None:
    peering = us()
    for where in ("10.0.0.9:7070", "93.1.1.1:7070"):
        assert peering._dialler.book.hear(PeerAddress(where, b""), source=LOCAL, now_ms=START_MS)
    listed = []
    for number, where in enumerate(("66.6.6.6:666", "10.0.0.1:7070")):
        stranger = Stranger(peering, bytes([number]) * 32, where)
        (answer,) = stranger.send(frame(Type.REQUEST, 1, b"p2p:get_peers", b""))
        assert isinstance(answer, Send)
        listed.append((b"93.1.1.1" in answer.data, b"10.0.0.9" in answer.data))
    assert listed == [(True, False), (True, True)]


def test_a_second_hello_is_refused() -> None:
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    stranger.greet()
    assert any(isinstance(e, Refusal) and e.reason is PeerReason.SECOND_HELLO for e in stranger.effects)
    assert sum(isinstance(effect, PeerUp) for effect in stranger.effects) == 1


def test_who_never_says_hello_is_left() -> None:
    peering = us()
    stranger = Stranger(peering, b"x" * 32)
    stranger.send(b"\0\0\0")
    for later_ms in (*range(0, HELLO_MS, 1_000), HELLO_MS - 1):
        assert not [e for e in peering.tick(START_MS + later_ms) if isinstance(e, Close)]
    (close,) = [e for e in peering.tick(START_MS + HELLO_MS) if isinstance(e, Close)]
    assert close.reason is PeerReason.HELLO_TIMEOUT


def _backlog(seconds: int) -> bytes:
    """What an honest peer says in so long: announcements each 10 ms, and a vote that it says again twice a second."""
    announced = [
        frame(Type.PLAIN, number, ANNOUNCE.wire, pack_message(ANNOUNCE, Wids([number.to_bytes(32, "big")])))
        for number in range(seconds * 100)
    ]
    return b"".join(announced) + frame(Type.PLAIN, 9, VOTE.wire, b"again") * (2 * seconds)


@pytest.mark.parametrize("sleeps", [True, False])
def test_who_was_asleep_does_not_blame_the_others_for_what_came_meanwhile(sleeps: bool) -> None:
    """A process that was stopped for a quarter of a minute found more than the rates allow, and banned everybody."""
    peering = us()
    peer = Stranger(peering, b"h" * 32).greet()
    question = peering.ask(START_MS, peer.key, CONSENSUS_GET, b"?", ticket=1)
    assert isinstance(question[0], Send)
    if not sleeps:
        for later_ms in range(0, 15_000, 250):
            peering.tick(START_MS + later_ms)
    peer.now_ms = START_MS + 15_000
    heard = peer.send(_backlog(15))
    later = peering.tick(peer.now_ms)
    assert peer.ended() is (None if sleeps else PeerReason.BANNED)
    if sleeps:
        assert peering.scores.points(peer.key, peer.now_ms) == 0
        assert len([effect for effect in heard if isinstance(effect, Heard)]) == 15 * 102, "nothing was lost"
        assert not [effect for effect in later if isinstance(effect, Unreplied | Close)], (
            "it may still answer"
        )
        more = peer.send(_backlog(30))
        refused = [effect for effect in more if isinstance(effect, Refusal)]
        assert refused and peer.ended() is None, "no more than that; and the points begin when all is read"
        for later_ms in range(15_000, 26_000, 250):
            peering.tick(START_MS + later_ms)
        peer.now_ms = START_MS + 26_000
        peer.send(_backlog(15))
        peer.send(_backlog(15))
        assert peer.ended() is PeerReason.BANNED


def test_who_says_nothing_is_left_after_a_minute() -> None:
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    reasons: list[PeerReason] = []
    for now_ms in range(START_MS, START_MS + 60_000, 250):
        reasons += [e.reason for e in peering.tick(now_ms) if isinstance(e, Close)]
    assert reasons == [PeerReason.IDLE]
    assert stranger.link == Stranger.links


def test_a_slow_loris_is_shaken_off() -> None:
    """One byte a second of a large candidate: alive by every heartbeat, and never done."""
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    candidate = frame(Type.PLAIN, 2, b"gossip:consensus:candidate", bytes(1_300_000))
    ended_at = None
    for second in range(60):
        stranger.now_ms = START_MS + second * 1_000
        stranger.send(candidate[second * 10 : second * 10 + 10])
        closes = [e.reason for e in peering.tick(stranger.now_ms) if isinstance(e, Close)]
        if closes:
            ended_at = (second, closes)
            break
    assert ended_at == (11, [PeerReason.SLOW_FRAME])


def test_an_honest_slow_line_is_not_a_slow_loris() -> None:
    """A whole block at 20 KB a second takes more than three minutes; it comes."""
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    candidate = frame(Type.PLAIN, 2, b"gossip:consensus:candidate", bytes(1_300_000))
    for second in range(200):
        stranger.now_ms = START_MS + second * 1_000
        stranger.send(candidate[second * 20_000 : second * 20_000 + 20_000])
        assert not [
            e for e in peering.tick(stranger.now_ms) if isinstance(e, Close) and e.link == stranger.link
        ]


def test_incomplete_frames_of_all_peers_fit_in_memory() -> None:
    settings = PeerSettings(key=US, settings_hash=SETTINGS_HASH, agent="us", max_peers=64)
    peering = Peering(settings, status=STATUS, secret=bytes(32))
    candidate = frame(Type.PLAIN, 2, b"gossip:consensus:candidate", bytes(1_300_000))[:-1]
    held = 0
    for number in range(60):
        stranger = Stranger(peering, number.to_bytes(32, "big"), f"30.{number}.0.1:1").greet()
        stranger.send(candidate)
        for effect in peering.tick(START_MS):
            assert not isinstance(effect, Close) or effect.reason is PeerReason.BUFFERS_FULL
        held = sum(link.session.buffered for link in peering._links.values() if not link.ending())
        assert held <= MAX_BUFFERED
    assert held > MAX_BUFFERED // 2


def test_a_slow_reader_is_told_and_dropped_by_name() -> None:
    peering = us()
    stranger = Stranger(peering, b"x" * 32).greet()
    effects = peering.step(START_MS, Clogged(stranger.link))
    (close,) = [effect for effect in effects if isinstance(effect, Close)]
    assert (close.reason, close.drop_queue) == (PeerReason.SLOW_PEER, True)
    assert b"p2p:bye\0\x92\xa9slow_peer" in close.farewell
    assert PeerDown(b"x" * 32, PeerReason.SLOW_PEER) in effects


def test_newcomers_are_bounded_even_before_they_speak() -> None:
    peering = us()
    strangers = [Stranger(peering, bytes([number]) * 32, where_of(number)) for number in range(60)]
    assert sum(stranger.is_here for stranger in strangers) == 2 * SETTINGS.max_peers + 16
    friend = us(configured=[ConfiguredPeer("", b"f" * 32)])
    for number in range(60):
        Stranger(friend, bytes([number]) * 32, where_of(number))
    assert Stranger(friend, b"f" * 32).greet().ended() is None


def test_who_never_says_hello_keeps_nobody_from_the_door() -> None:
    """Eight addresses of one network, which come again with new keys as soon as a place is free."""
    peering = us()
    most = 2 * SETTINGS.max_peers + 16
    silent = [
        Stranger(peering, b"m" + bytes([number] * 31), f"99.9.0.{number % 8}:{1 + number}", START_MS + number)
        for number in range(most)
    ]
    honest = [
        Stranger(peering, bytes([number]) * 32, where_of(number), START_MS + 1_000) for number in (1, 2)
    ]
    assert [one.greet().ended() for one in honest] == [None, None]
    assert all(one.is_here for one in honest)
    gone = [number for number, one in enumerate(silent) if not one.is_here]
    assert gone == [0, 1], "the oldest of the network with most of them"
    assert peering.held()["links"][0] == most


def test_the_crowd_is_pruned_from_its_largest_network_and_old_friends_stay() -> None:
    peering = us()
    honest = [
        Stranger(peering, bytes([number]) * 32, where_of(number), START_MS + number).greet()
        for number in (1, 2, 3)
    ]
    sybils = [
        Stranger(peering, bytes([number]) * 32, f"99.9.{number}.1:1", START_MS + 1_000 + number).greet()
        for number in range(10, 15)
    ]
    assert len(peering.peers) == 6, "double, less the places that we fill ourselves"
    pruned: list[int] = []
    for second in range(2, 12):
        now_ms = START_MS + second * 1_000
        left = [e.link for e in peering.tick(now_ms) if isinstance(e, Close)]
        assert len(left) == 1, "one place, for whoever comes next"
        pruned += left
        sybils.append(Stranger(peering, bytes([100 + second]) * 32, f"99.9.{second}.9:1", now_ms).greet())
    assert set(pruned) <= {stranger.link for stranger in sybils}
    assert not set(pruned) & {stranger.link for stranger in honest}


@pytest.mark.parametrize("seed", range(8))
def test_chosen_peers_come_from_different_networks(seed: int) -> None:
    peering = Peering(SETTINGS, status=STATUS, secret=bytes([seed]) * 32)
    for number in range(30):
        where = f"93.{number % 2}.{number}.1:7070"
        peering._dialler.book.hear(PeerAddress(where, b""), source=f"v4 9.{number}", now_ms=START_MS)
    dials = [effect for effect in peering.tick(START_MS) if isinstance(effect, Dial)]
    assert {dial.where.split(".")[1] for dial in dials} == {"0", "1"} and len(dials) == 2
    (first, second) = dials
    peering.step(START_MS, Linked(10**6, b"a" * 32, first.where, first.dial))
    peering.step(START_MS, DialFailed(second.dial, PeerReason.DIAL_FAILED, ""))
    (third,) = [effect for effect in peering.tick(START_MS + 1_000) if isinstance(effect, Dial)]
    assert third.where.split(".")[1] == second.where.split(".")[1] and third.where != second.where


def test_an_eclipse_attempt_on_the_address_book() -> None:
    """Mallory owns nine addresses of ten and tells them again and again; we still dial honest networks."""
    peering = us()
    for number in range(40):
        teller = Stranger(peering, bytes([number + 1]) * 32, where_of(number)).greet()
        peering._dialler.book.hear(_told(where_of(100 + number)), source=f"v4 20.{number}", now_ms=START_MS)
        if teller.ended() is None:
            peering.step(START_MS, Unlinked(teller.link, PeerReason.LOST, ""))
    for number in range(3_600):
        peering._dialler.book.hear(
            _told(f"99.{number % 3}.{number // 250}.{number % 250}:7070"), source="v4 99.9", now_ms=START_MS
        )
    dialled: list[str] = []
    for round_ in range(200):
        dialled += [
            effect.where for effect in peering.tick(START_MS + round_ * 1_000) if isinstance(effect, Dial)
        ]
        if len(dialled) >= 2:
            break
    entries = peering._dialler.book._entries
    honest = [where for where in entries if not where.startswith("99.")]
    assert len(entries) - len(honest) <= 32 * 16, "all tellers of one network share an eighth of the book"
    assert any(not where.startswith("99.") for where in dialled), "two chosen peers share no network"


def test_anchors_are_dialled_first_and_again_when_others_took_all_places() -> None:
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=4)
    for number in range(1, 8):
        village.add(f"n{number}", where_of(number), bootstrap=(boot.where,), max_peers=4)
    village.run(60)
    record = village.people["n3"].network.record()
    (anchor,) = record.anchors
    village.people["n3"].crash()
    (there,) = [person for person in village.people.values() if person.where == anchor.where]
    there.crash()
    again = village.add("n3", where_of(3), book=record, max_peers=4)
    village.run(1)
    assert ("n3", anchor.where) in village.dials, "whoever else is in the book"
    village.run(30)
    assert len(again.friends) >= 2, "others took its place"
    village.add(there.name, anchor.where, bootstrap=(boot.where,), max_peers=4)
    village.run(70)
    assert there.name in again.friends, "it came back later, and there was one place more for it"


def test_of_too_many_chosen_peers_who_tells_nothing_goes() -> None:
    """One more than wanted is dialled every two minutes; half a minute later who has no news is left."""
    village = Village()
    alice = village.add("alice", where_of(0), max_peers=4, listens=False)
    others = [village.add(name, where_of(9 + number)) for number, name in enumerate(("bob", "carol", "dave"))]
    alice.network.hear_addresses(alice.now_ms, [_told(person.where) for person in others], source="v4 20.9")
    village.run(3)
    silent, telling = (person for person in others if person.name in alice.friends)
    silent.verdict = lambda _: Verdict.IGNORE
    (third,) = [person for person in others if person not in (silent, telling)]
    for second in range(200):
        for person in (telling, third):
            if person.friends:
                news = f"{person.name} {second}".encode()
                person.perform(person.network.publish(person.now_ms, CERTIFICATE, news))
        village.run(1)
    chosen = {view.agent for view in alice.network.view(alice.now_ms) if view.outbound}
    assert chosen == {telling.name, third.name}
    assert PeerDown(silent.key, PeerReason.PRUNED) in alice.events


def test_who_told_something_before_finds_a_place_where_all_are_taken_by_the_silent() -> None:
    peering = us()
    friend = Stranger(peering, b"f" * 32, where_of(40)).greet()
    peering.credit(START_MS, friend.key)
    peering.step(START_MS, Unlinked(friend.link, PeerReason.LOST, ""))
    crowd = [Stranger(peering, bytes([n]) * 32, where_of(n), START_MS + n).greet() for n in range(1, 7)]
    stranger = Stranger(peering, b"s" * 32, where_of(41), START_MS + 100).greet()
    assert stranger.ended() is not None, "full"
    again = Stranger(peering, b"f" * 32, where_of(40), START_MS + 200).greet()
    assert again.ended() is None and friend.key in peering.peers
    assert crowd[-1].key not in peering.peers and len(peering.peers) == 6, "the youngest of the silent went"


def test_a_newcomer_has_time_to_tell_something_before_it_goes() -> None:
    peering = us()
    crowd = [Stranger(peering, bytes([n]) * 32, where_of(n), START_MS).greet() for n in range(1, 7)]
    peering.credit(START_MS + 1_000, crowd[-1].key)
    ends = [
        (second, effect)
        for second in range(1, 21)
        for effect in peering.tick(START_MS + second * 1_000)
        if isinstance(effect, Close)
    ]
    ((second, gone),) = ends
    assert second == 20 and gone.link != crowd[-1].link and gone.reason is PeerReason.PRUNED


def _told(where: str) -> PeerAddress:
    return PeerAddress(where, b"")


# Many at once


def test_a_partition_of_twenty_heals_and_news_flow_again() -> None:
    village = Village()
    village.add("n0", where_of(0), max_peers=8)
    for number in range(1, 20):
        village.add(f"n{number}", where_of(number), bootstrap=(where_of(0),), max_peers=8)
    village.run(60)
    west = {where_of(number) for number in range(10)}
    village.blocked = lambda a, b: (a in west) != (b in west)
    village.run(120)
    for person in village.people.values():
        side = {f"n{number}" for number in (range(10) if person.where in west else range(10, 20))}
        assert person.friends <= side and len(person.friends) >= 2
    village.blocked = lambda a, b: False
    village.run(180)
    teller = village.people["n15"]
    teller.perform(teller.network.publish(teller.now_ms, CERTIFICATE, b"one chain again"))
    village.run(1)
    assert all(
        person.heard == [(CERTIFICATE.name, b"one chain again")]
        for person in village.people.values()
        if person is not teller
    )


def test_nodes_come_and_go_and_nothing_is_left_behind() -> None:
    """Twenty minutes of churn: tables stay as large as the village is."""
    village = Village()
    boot = village.add("boot", where_of(0), max_peers=6)
    for round_ in range(40):
        name = f"n{round_ % 8}"
        if name in village.people and village.people[name].alive:
            village.people[name].crash()
            village.run(5)
        village.add(name, where_of(1 + round_ % 8), bootstrap=(boot.where,), max_peers=6)
        village.run(25)
    assert len(boot.friends) >= 3
    peering, gossip = boot.network._peering, boot.network._gossip
    assert len(peering._links) <= 12 and set(peering._by_key) == set(peering.peers)
    assert len(peering._dialler._attempts) <= 8
    assert set(gossip._peers) <= set(peering.peers)
    assert (gossip._pulls, gossip._wanted, gossip._undecided) == ({}, {}, 0)
    assert all(end.open for end in boot.transport._ends.values())
    assert len(boot.transport._ends) == len(peering._links)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_facts_keeps_the_tables_whole(seed: int) -> None:
    """Made-up facts in made-up order: no exception, every link that was left is closed once, promises are kept."""
    draw = random.Random(seed)
    peering = us(configured=[ConfiguredPeer("20.1.1.1:1", b"c" * 32)])
    now_ms, next_link, alive, dials, closed = START_MS, 1, set(), {}, set()  # type: ignore[var-annotated]
    said = [
        frame(Type.REQUEST, 1, HELLO.wire, pack_message(HELLO, hello())),
        frame(Type.REQUEST, 2, b"p2p:get_peers", b""),
        frame(Type.PLAIN, 3, VOTE.wire, b"yes"),
        frame(Type.ANSWER, 1, b"", pack_answer(HELLO, Welcome(True, "", hello(), []))),
        frame(Type.REFUSAL, 1, b"", b"no"),
        b"\0\0",
        b"\xff" * 20,
    ]
    for _ in range(3_000):
        now_ms += draw.choice((0, 1, 50, 5_000))
        link = draw.choice(sorted(alive)) if alive else 0
        effects: list[object] = []
        match draw.randrange(8):
            case 0:
                dial = draw.choice([None, *dials])
                dials.pop(dial, None)
                key = draw.choice([b"c" * 32, US, *(bytes([n]) * 32 for n in range(6))])
                effects += peering.step(now_ms, Linked(next_link, key, where_of(draw.randrange(9)), dial))
                alive.add(next_link)
                next_link += 1
            case 1 | 2 | 3 if alive:
                effects += peering.step(now_ms, Received(link, draw.choice(said)))
            case 4 if alive:
                alive.discard(link)
                effects += peering.step(now_ms, Unlinked(link, PeerReason.LOST, ""))
            case 5 if dials:
                dial = draw.choice(sorted(dials))
                del dials[dial]
                effects += peering.step(now_ms, DialFailed(dial, PeerReason.DIAL_FAILED, ""))
            case 6 if alive:
                effects += peering.step(now_ms, Clogged(link))
            case _:
                effects += peering.tick(now_ms)
        for effect in effects:
            if isinstance(effect, Dial):
                dials[effect.dial] = effect
            if isinstance(effect, Close):
                assert effect.link not in closed, "closed once"
                closed.add(effect.link)
            if isinstance(effect, Send):
                assert effect.link not in closed, "nothing is sent after the goodbye"
        assert set(peering._links) == alive
        assert sorted(peering.peers) == sorted(link.key for link in peering._up())
        assert len(set(peering.peers)) == len(peering.peers)
