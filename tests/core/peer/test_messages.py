"""Statements, requests and answers on one connection, and what a peer may not do with them."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.codec.wire import pack
from aitbc.core.peer.frames import Type, frame
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    BLOCKS,
    BY_NAME,
    BYE,
    GET_PEERS,
    HELLO,
    KINDS,
    PING,
    PULL,
    RECORD_KEY,
    VOTE,
    BlockRange,
    Bye,
    Kind,
    PeerList,
    Ping,
    Rate,
    Status,
    Wids,
    pack_answer,
    pack_message,
)
from aitbc.core.peer.messages import (
    MAX_ASKED,
    MAX_PENDING,
    Answered,
    Asked,
    Bucket,
    Item,
    Request,
    Said,
    Session,
    Unanswered,
    Wrong,
)
from aitbc.core.peer.reasons import PeerFault, PeerReason

STATUS = Status(head_height=5, head_hash=bytes(32), finalised_height=4)
PING_1 = Ping(number=1, status=STATUS)


def session() -> Session:
    new = Session(0)
    new.introduced = True
    return new


def hear(by: Session, now_ms: int, data: bytes) -> list[Item]:
    return list(by.receive(now_ms, data))


def wrongs(items: list[Item]) -> list[tuple[PeerReason, int | None]]:
    assert all(isinstance(item, Wrong) for item in items)
    return [(item.fault.reason, item.refuse) for item in items if isinstance(item, Wrong)]


def ended(by: Session, data: bytes, now_ms: int = 0) -> PeerReason:
    with pytest.raises(PeerFault) as caught:
        hear(by, now_ms, data)
    return caught.value.reason


def test_a_question_and_its_answer() -> None:
    alice, bob = session(), session()
    asked = alice.ask(0, PING, pack_message(PING, PING_1), ticket=77)
    assert asked is not None
    assert hear(bob, 1, asked) == [Asked(PING, 1, PING_1)]
    answer = bob.answer(1, pack_answer(PING, PING_1))
    assert answer is not None
    assert hear(alice, 2, answer) == [Answered(Request(PING, 77, 0), PING_1)]
    assert wrongs(hear(alice, 3, answer)) == [(PeerReason.UNSOLICITED_ANSWER, None)]


def test_ids_count_from_one_over_statements_and_requests() -> None:
    alice = session()
    frames = [
        alice.say(0, VOTE, b"one"),
        alice.ask(0, GET_PEERS, b"", ticket=1),
        alice.say(0, VOTE, b"three"),
    ]
    assert frames == [
        frame(Type.PLAIN, 1, b"gossip:consensus:vote", b"one"),
        frame(Type.REQUEST, 2, b"p2p:get_peers", b""),
        frame(Type.PLAIN, 3, b"gossip:consensus:vote", b"three"),
    ]


def test_a_refusal_ends_the_waiting_with_its_reason() -> None:
    alice, bob = session(), session()
    hear(bob, 0, alice.ask(0, GET_PEERS, b"", ticket=1) or b"")
    assert hear(alice, 1, bob.refuse(1, PeerReason.UNAVAILABLE)) == [
        Unanswered(Request(GET_PEERS, 1, 0), PeerReason.REFUSED, "unavailable")
    ]
    assert alice.expire(10**9) == []


def test_no_answer_in_time_then_a_late_one_then_an_invented_one() -> None:
    alice, bob = session(), session()
    asked = alice.ask(0, GET_PEERS, b"", ticket=1)
    assert asked is not None
    hear(bob, 0, asked)
    answer = bob.answer(1, pack_answer(GET_PEERS, PeerList([])))
    assert answer is not None
    assert alice.expire(4_999) == []
    assert alice.expire(5_000) == [
        Unanswered(Request(GET_PEERS, 1, 0), PeerReason.NO_ANSWER, "none within 5000 ms")
    ]
    assert wrongs(hear(alice, 5_001, answer)) == [(PeerReason.LATE_ANSWER, None)]
    assert wrongs(hear(alice, 5_002, answer)) == [(PeerReason.UNSOLICITED_ANSWER, None)]


def test_an_answer_that_comes_while_its_request_times_out_is_late() -> None:
    alice, bob = session(), session()
    hear(bob, 0, alice.ask(0, BLOCKS, pack_message(BLOCKS, BlockRange(1, 1)), ticket=1) or b"")
    answer = bob.answer(1, pack(([bytes(1000)],)))
    assert answer is not None
    assert hear(alice, 9_999, answer[:500]) == []
    assert len(alice.expire(10_000)) == 1
    assert wrongs(hear(alice, 10_001, answer[500:])) == [(PeerReason.LATE_ANSWER, None)]


def test_an_answer_too_late_to_matter_is_not_sent() -> None:
    alice, bob = session(), session()
    hear(bob, 0, alice.ask(0, GET_PEERS, b"", ticket=1) or b"")
    bob.expire(5_000)
    assert bob.answer(1, pack_answer(GET_PEERS, PeerList([]))) is None


def test_a_lost_connection_names_every_request_once() -> None:
    alice = session()
    alice.ask(0, GET_PEERS, b"", ticket=1)
    alice.ask(0, GET_PEERS, b"", ticket=2)
    assert [(left.request.ticket, left.reason) for left in alice.abandon()] == [
        (1, PeerReason.LOST),
        (2, PeerReason.LOST),
    ]
    assert alice.abandon() == []


NOT_TAKEN = [
    ("an unknown statement", frame(Type.PLAIN, 9, b"gossip:bc:new_tx", b"x"), PeerReason.UNKNOWN_KIND, None),
    ("an unknown request", frame(Type.REQUEST, 9, b"p2p:dance", b"x"), PeerReason.UNKNOWN_KIND, 9),
    ("a request as statement", frame(Type.PLAIN, 9, GET_PEERS.wire, b""), PeerReason.NOT_A_REQUEST, None),
    ("a statement as request", frame(Type.REQUEST, 9, VOTE.wire, b"v"), PeerReason.NOT_ANSWERABLE, 9),
    ("not msgpack", frame(Type.REQUEST, 9, PING.wire, b"\xc1"), PeerReason.BAD_PAYLOAD, 9),
    ("a second spelling", frame(Type.PLAIN, 9, BYE.wire, b"\x92\xa1x\xd9\x00"), PeerReason.BAD_PAYLOAD, None),
    ("a field out of range", frame(Type.PLAIN, 9, ANNOUNCE.wire, pack(([],))), PeerReason.BAD_PAYLOAD, None),
    ("a short hash", frame(Type.PLAIN, 9, ANNOUNCE.wire, pack(([b"x"],))), PeerReason.BAD_PAYLOAD, None),
    ("nobody asked", frame(Type.ANSWER, 9, b"", b"x"), PeerReason.UNSOLICITED_ANSWER, None),
    ("a refusal of nothing", frame(Type.REFUSAL, 9, b"", b"x"), PeerReason.UNSOLICITED_ANSWER, None),
]


@pytest.mark.parametrize(
    ("data", "reason", "refuse"), [case[1:] for case in NOT_TAKEN], ids=[case[0] for case in NOT_TAKEN]
)
def test_not_taken_and_the_connection_goes_on(data: bytes, reason: PeerReason, refuse: int | None) -> None:
    bob = session()
    assert wrongs(hear(bob, 0, data)) == [(reason, refuse)]
    bye = pack_message(BYE, Bye("leaving", ""))
    assert hear(bob, 0, frame(Type.PLAIN, 10, BYE.wire, bye)) == [Said(BYE, Bye("leaving", ""))]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_payload_above_its_kinds_limit_ends_it_with_the_head(kind: Kind) -> None:
    type_ = Type.REQUEST if kind.asks else Type.PLAIN
    head = frame(type_, 1, kind.wire, bytes(kind.limit + 1))[: -kind.limit - 1]
    assert ended(session(), head) is PeerReason.PAYLOAD_TOO_LARGE


def test_an_answer_above_its_kinds_limit_ends_it_with_the_head() -> None:
    alice = session()
    alice.ask(0, GET_PEERS, b"", ticket=1)
    assert ended(alice, frame(Type.ANSWER, 1, b"", bytes(8193))[:20]) is PeerReason.PAYLOAD_TOO_LARGE
    alice = session()
    alice.ask(0, GET_PEERS, b"", ticket=1)
    assert ended(alice, frame(Type.REFUSAL, 1, b"", bytes(513))[:20]) is PeerReason.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_only_some_kinds_come_before_hello(kind: Kind) -> None:
    stranger = Session(0)
    head = frame(Type.REQUEST if kind.asks else Type.PLAIN, 1, kind.wire, b"")
    if kind.before_hello:
        assert kind in (HELLO, GET_PEERS, RECORD_KEY, BYE)
        hear(stranger, 0, head)
    else:
        assert ended(stranger, head) is PeerReason.NOT_INTRODUCED


def test_a_flood_of_one_kind_is_skipped_and_the_others_still_pass() -> None:
    bob = session()
    one = frame(Type.REQUEST, 1, GET_PEERS.wire, b"")
    bob._asked = {}
    heard = [hear(bob, 0, frame(Type.REQUEST, id_, GET_PEERS.wire, b""))[0] for id_ in range(1, 8)]
    assert [type(item).__name__ for item in heard] == ["Asked"] * 4 + ["Wrong"] * 3
    assert wrongs(heard[4:]) == [(PeerReason.RATE_EXCEEDED, id_) for id_ in (5, 6, 7)]
    assert hear(bob, 0, frame(Type.PLAIN, 8, VOTE.wire, b"v")) == [Said(VOTE, b"v")]
    assert [type(item) for item in hear(bob, 1_000, one[:5] + b"\0\0\0\x09" + one[9:])] == [Asked]


def test_a_flood_of_nonsense_is_bounded_too() -> None:
    bob = session()
    flood = b"".join(frame(Type.PLAIN, id_, b"x", b"") for id_ in range(10_001))
    reasons = [reason for reason, _ in wrongs(hear(bob, 0, flood))]
    assert reasons == [PeerReason.UNKNOWN_KIND] * 10_000 + [PeerReason.RATE_EXCEEDED]


def test_a_peer_may_not_ask_more_than_we_can_answer() -> None:
    bob = session()
    asks = [
        frame(Type.REQUEST, id_, PULL.wire, pack_message(PULL, Wids([bytes(32)]))) for id_ in range(1, 66)
    ]
    items = hear(bob, 0, b"".join(asks))
    assert [type(item) for item in items[:MAX_ASKED]] == [Asked] * MAX_ASKED
    assert wrongs(items[MAX_ASKED:]) == [(PeerReason.TOO_MANY_REQUESTS, 65)]
    bob.expire(PULL.timeout_ms)
    again = frame(Type.REQUEST, 66, PULL.wire, pack_message(PULL, Wids([bytes(32)])))
    assert [type(item) for item in hear(bob, PULL.timeout_ms, again)] == [Asked]


def test_we_never_send_what_the_peer_would_count_against_us() -> None:
    alice, bob = session(), session()
    sent = [alice.say(0, VOTE, b"v%d" % number) for number in range(5_000)]
    frames = [part for part in sent if part is not None]
    assert len(frames) == VOTE.count.burst * 9 // 10
    assert all(isinstance(item, Said) for item in hear(bob, 0, b"".join(frames)))


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_sender_stays_below_every_rate_although_clocks_and_ways_differ(kind: Kind) -> None:
    """Small rates too: nine tenths of two a second, rounded up, were two a second."""
    sender, sent = Session(0), 0
    payload = bytes(min(kind.limit, 32))
    for now_ms in range(0, 20_000, 50):
        for _ in range(kind.count.burst):
            send = sender.ask(now_ms, kind, payload, 1) if kind.asks else sender.say(now_ms, kind, payload)
            sent += send is not None
            sender.abandon()
    assert 0 < sent <= 0.9 * (kind.count.burst + 20 * kind.count.per_second) + 1


def test_our_own_requests_are_bounded() -> None:
    alice = session()
    payload = pack_message(PULL, Wids([bytes(32)]))
    asked = [alice.ask(number * 5, PULL, payload, ticket=number) for number in range(MAX_PENDING + 10)]
    assert [part is None for part in asked] == [False] * MAX_PENDING + [True] * 10


def test_a_bucket_gives_back_every_millisecond() -> None:
    bucket = Bucket(Rate(per_second=10, burst=2), 0)
    assert [bucket.take(now_ms) for now_ms in (0, 0, 0, 99, 100, 100, 150, 200)] == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert not bucket.take(100), "a clock that goes back earns nothing"


def test_a_frame_that_trickles_shows_its_age() -> None:
    bob = session()
    vote = frame(Type.PLAIN, 1, VOTE.wire, bytes(100))
    assert hear(bob, 1_000, vote) and bob.inside_for_ms(9_000) == 0
    hear(bob, 10_000, vote[:3])
    hear(bob, 15_000, vote[3:60])
    assert bob.inside_for_ms(16_000) == 6_000
    hear(bob, 16_000, vote[60:] + vote[:8])
    assert bob.inside_for_ms(16_500) == 500


def test_every_kind_is_sane() -> None:
    assert len(BY_NAME) == len(KINDS)
    for kind in KINDS:
        assert len(kind.wire) <= 64
        assert kind.asks == (kind.timeout_ms > 0) == (kind.answer_limit > 0)
        assert kind.size.burst >= kind.limit * 9 // 10, f"{kind.name}: one message must fit"
        assert -(-kind.size.burst * 9 // 10) >= kind.limit, f"{kind.name}: we could never send the largest"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Type),
            st.integers(0, 5),
            st.sampled_from([*BY_NAME, b"x"]),
            st.binary(max_size=80),
        ),
        max_size=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_made_up_messages_raise_only_the_declared_fault(said: list[tuple[Type, int, bytes, bytes]]) -> None:
    alice = session()
    alice.ask(0, PING, pack_message(PING, PING_1), ticket=1)
    try:
        for type_, id_, kind, payload in said:
            hear(alice, 0, frame(type_, id_, kind if type_ < 2 else b"", payload))
    except PeerFault as caught:
        if caught.reason is not PeerReason.PAYLOAD_TOO_LARGE:
            raise


def test_memory_stays_bounded_whatever_comes() -> None:
    """Requests never answered, answers never asked for, nonsense: a hundred thousand messages leave no trace."""
    bob = session()
    tracemalloc.start()
    for number in range(100_000):
        noise = (b"x", GET_PEERS.wire, VOTE.wire)[number % 3]
        type_ = (Type.PLAIN, Type.REQUEST, Type.PLAIN)[number % 3]
        hear(bob, number, frame(type_, number + 1, noise, b""))
        if number % 1000 == 0:
            bob.expire(number)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000
