"""What one node says, all hear once; what nobody needs, nobody repeats."""

import tracemalloc

import pytest

from aitbc.core.peer import gossip
from aitbc.core.peer.gossip import FLUSH_MS, MAX_WANTED_OF_PEER, Verdict
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    CANDIDATE,
    CERTIFICATE,
    VOTE,
    PeerAddress,
    Transactions,
    Wids,
    pack_message,
)
from aitbc.core.peer.peers import ConfiguredPeer
from aitbc.core.peer.reasons import PeerReason
from support.village import Village, Villager, where_of


def village_of(count: int, **settings: object) -> Village:
    """Everybody knows the first; connections settle."""
    village = Village()
    village.add("n0", where_of(0), max_peers=8, **settings)
    for number in range(1, count):
        village.add(f"n{number}", where_of(number), bootstrap=(where_of(0),), max_peers=8, **settings)
    village.run(60)
    for person in village.people.values():
        person.events.clear()
        person.refusals.clear()
    return village


def publish(who: Villager, payload: bytes, kind: gossip.Kind = CERTIFICATE) -> None:
    who.perform(who.network.publish(who.now_ms, kind, payload))


def wid(number: int) -> bytes:
    return number.to_bytes(32, "big")


def submit(who: Villager, *numbers: int) -> None:
    """Transactions that somebody gave this node."""
    for number in numbers:
        who.pool.txs[wid(number)] = b"tx %d" % number
    who.perform(who.network.took(who.now_ms, [wid(number) for number in numbers]))


def test_everybody_hears_once() -> None:
    village = village_of(20)
    publish(village.people["n7"], b"final")
    village.run(1)
    for person in village.people.values():
        assert person.heard == ([] if person.name == "n7" else [(CERTIFICATE.name, b"final")])
        assert PeerReason.DUPLICATE_GOSSIP not in person.refusals


def test_what_was_heard_is_not_news_when_it_comes_again() -> None:
    village = village_of(6)
    publish(village.people["n1"], b"final")
    village.run(1)
    publish(village.people["n2"], b"final")
    village.run(1)
    assert all(len(person.heard) <= 1 for person in village.people.values())


def test_a_message_is_news_again_after_five_minutes_and_not_before() -> None:
    village = village_of(3)
    for seconds, heard in ((299, 1), (2, 2)):
        publish(village.people["n1"], b"final")
        village.run(0.5)
        village.run(seconds - 0.5)
        publish(village.people["n1"], b"final")
        village.run(0.5)
        assert len(village.people["n2"].heard) == heard


@pytest.mark.parametrize("verdict", [Verdict.IGNORE, None], ids=["ignored", "not judged yet"])
def test_what_is_not_accepted_goes_no_further(verdict: Verdict | None) -> None:
    village = Village()
    middle = village.add("m", where_of(0), max_peers=8)
    left = village.add("l", where_of(1), bootstrap=(middle.where,), listens=False)
    right = village.add("r", where_of(2), bootstrap=(middle.where,), listens=False)
    village.run(3)
    assert (left.friends, right.friends) == ({"m"}, {"m"})
    middle.verdict = lambda _: verdict
    publish(left, b"news")
    village.run(1)
    assert middle.heard == [(CERTIFICATE.name, b"news")] and right.heard == []
    assert left.friends == {"m"}, "and nobody is blamed"


def test_a_verdict_may_come_later() -> None:
    village = Village()
    middle = village.add("m", where_of(0), max_peers=8)
    left = village.add("l", where_of(1), bootstrap=(middle.where,), listens=False)
    right = village.add("r", where_of(2), bootstrap=(middle.where,), listens=False)
    village.run(3)
    waiting: list[bytes] = []
    middle.verdict = lambda delivered: waiting.append(delivered.id)
    publish(left, b"news")
    village.run(1)
    middle.perform(middle.network.judge(middle.now_ms, waiting[0], Verdict.ACCEPT))
    middle.perform(middle.network.judge(middle.now_ms, waiting[0], Verdict.REJECT))
    village.run(1)
    assert right.heard == [(CERTIFICATE.name, b"news")]
    assert middle.friends == {"l", "r"}, "a second verdict has no effect"


def test_who_passes_on_what_is_provably_wrong_is_banned() -> None:
    village = village_of(4)
    bob = village.people["n1"]
    for name in ("n0", "n2", "n3"):
        village.people[name].verdict = lambda _: Verdict.REJECT
    publish(bob, b"forged")
    village.run(1)
    for name in ("n0", "n2", "n3"):
        other = village.people[name]
        assert "n1" not in other.friends
        if other.heard:
            assert other.refusals[PeerReason.INVALID] == 1
            assert bob.key in other.network.bans(other.now_ms)
    village.run(60)
    assert bob.friends == set(), "nor does anybody take it back"


def test_saying_the_same_twice_costs_a_point() -> None:
    village = village_of(2)
    one, two = village.people["n0"], village.people["n1"]
    for _ in range(3):
        two.perform(two.network.say(two.now_ms, one.key, VOTE, b"yes"))
    village.run(1)
    assert one.heard == [(VOTE.name, b"yes")]
    assert one.refusals[PeerReason.DUPLICATE_GOSSIP] == 2
    assert one.network.view(one.now_ms)[0].points == 2


def test_votes_go_to_who_wants_them() -> None:
    village = Village()
    boot = village.add("b", where_of(0), max_peers=8)
    reader = village.add("r", where_of(1), bootstrap=(boot.where,), features=())
    voter = village.add("v", where_of(2), bootstrap=(boot.where,))
    village.run(3)
    publish(boot, b"yes", VOTE)
    publish(boot, b"final", CERTIFICATE)
    village.run(1)
    assert reader.heard == [(CERTIFICATE.name, b"final")]
    assert sorted(voter.heard) == [(CERTIFICATE.name, b"final"), (VOTE.name, b"yes")]


def test_validators_in_a_mesh_send_each_vote_once() -> None:
    """Seven validators, all connected: each hears each vote from its author and from nobody else; a reader of one
    of them hears it too."""
    village = Village()
    mesh = [ConfiguredPeer(where_of(n), f"v{n}".encode().ljust(32, b".")) for n in range(7)]
    for number in range(7):
        village.add(f"v{number}", where_of(number), configured=mesh)
    reader = village.add("reader", where_of(50), bootstrap=(where_of(3),), max_peers=1, listens=False)
    village.run(10)
    sends = 0
    for person in village.people.values():
        assert person.name == "reader" or len(person.friends) >= 6
        original = person.transport.send

        def counted(effect: object, original: object = original) -> None:
            nonlocal sends
            sends += VOTE.wire in effect.data  # type: ignore[attr-defined]
            original(effect)  # type: ignore[operator]

        person.transport.send = counted  # type: ignore[method-assign,assignment]
    publish(village.people["v0"], b"yes", VOTE)
    village.run(1)
    assert reader.heard == [(VOTE.name, b"yes")]
    assert all(len(village.people[f"v{n}"].heard) == 1 for n in range(1, 7))
    assert reader.friends == {"v3"}
    assert sends == 6 + 1


def test_a_vote_reaches_validators_behind_their_sentries() -> None:
    village = Village()
    sentries = [village.add(f"s{n}", where_of(n)) for n in range(2)]
    validators = [
        village.add(
            f"v{n}",
            where_of(10 + n),
            configured=[ConfiguredPeer(sentry.where, sentry.key)],
            listens=False,
            max_peers=1,
        )
        for n, sentry in enumerate(sentries)
    ]
    for sentry, validator in zip(sentries, validators, strict=True):
        peers = [ConfiguredPeer("", validator.key)]
        sentry.network.configure(peers)
    sentries[1].network._peering._dialler.book.hear(
        PeerAddress(sentries[0].where, sentries[0].key), source="v4 20.9", now_ms=village.time.now_ms
    )
    village.run(30)
    assert "s0" in sentries[1].friends
    publish(validators[0], b"yes", VOTE)
    village.run(1)
    assert validators[1].heard == [(VOTE.name, b"yes")]


# Transactions


def test_a_transaction_reaches_twenty_nodes_within_three_hops() -> None:
    """A hop is an announcement, a pull and the answer, with two waits for company: three ways and 20 ms."""
    village = village_of(20)
    submit(village.people["n5"], 1)
    village.run(3 * (3 * 20 + 2 * FLUSH_MS) / 1000)
    assert all(person.pool.has(wid(1)) for person in village.people.values())
    village.run(1)
    assert all(len(person.came) == (person.name != "n5") for person in village.people.values()), "each once"


def test_transactions_travel_in_batches() -> None:
    village = village_of(2)
    one, two = village.people["n0"], village.people["n1"]
    submit(one, *range(2_500))
    village.run(2)
    assert sorted(two.came) == [wid(number) for number in range(2_500)]


def test_large_transactions_come_in_several_answers() -> None:
    village = village_of(2)
    one, two = village.people["n0"], village.people["n1"]
    for number in range(40):
        one.pool.txs[wid(number)] = bytes(20_000)
    one.perform(one.network.took(one.now_ms, [wid(number) for number in range(40)]))
    village.run(3)
    assert len(two.came) == len(set(two.came)) == 40


def test_who_does_not_deliver_is_passed_over() -> None:
    village = village_of(3)
    silent, helper, asker = (village.people[f"n{number}"] for number in range(3))
    for liar in (silent, helper):
        liar.perform(
            liar.network.say(liar.now_ms, asker.key, ANNOUNCE, pack_message(ANNOUNCE, Wids([wid(9)])))
        )
        village.run(0.001)
    helper.pool.txs[wid(9)] = b"tx 9"
    silent.crash()
    village.run(7)
    assert asker.came == [wid(9)]


def test_who_delivers_another_transaction_keeps_nobody_from_the_right_one() -> None:
    """The liar announces first and answers the pull with something else; the honest peer announces while that is being
    checked, or before."""
    village = Village()
    victim = village.add("v", where_of(0), max_peers=8)
    liar = village.add("l", where_of(1), bootstrap=(victim.where,), max_peers=8)
    honest = village.add("h", where_of(2), bootstrap=(victim.where,), max_peers=8)
    village.run(30)
    victim.is_genuine = lambda name, tx: tx == b"tx %d" % int.from_bytes(name, "big")
    for number, delay in ((1, 0.0), (2, 0.015)):
        liar.pool.txs[wid(number)] = b"something else"
        liar.perform(liar.network.took(liar.now_ms, [wid(number)]))
        village.run(delay)
        submit(honest, number)
        village.run(1)
        assert victim.pool.txs[wid(number)] == b"tx %d" % number
    assert victim.refusals[PeerReason.INVALID] == 1, "banned at the first"
    assert "l" not in victim.friends and victim.network._gossip._wanted == {}


def test_who_has_it_no_more_gives_way_to_the_next() -> None:
    village = village_of(3)
    first, second, asker = (village.people[f"n{number}"] for number in range(3))
    announcement = pack_message(ANNOUNCE, Wids([wid(9)]))
    first.perform(first.network.say(first.now_ms, asker.key, ANNOUNCE, announcement))
    village.run(0.001)
    second.pool.txs[wid(9)] = b"tx 9"
    second.perform(second.network.say(second.now_ms, asker.key, ANNOUNCE, announcement))
    village.run(0.5)
    assert asker.came == [wid(9)]


def test_what_was_refused_is_not_fetched_again_for_a_minute() -> None:
    village = village_of(2)
    one, two = village.people["n0"], village.people["n1"]
    two.network.refused(two.now_ms, [wid(1)])
    submit(one, 1)
    village.run(59)
    submit(one, 1)
    village.run(0.5)
    assert two.came == []
    village.run(5)
    submit(one, 1)
    village.run(0.5)
    assert two.came == [wid(1)]


def test_more_than_was_asked_for_costs() -> None:
    village = village_of(2)
    one, two = village.people["n0"], village.people["n1"]
    one.network._gossip.pulled = lambda request: [  # type: ignore[method-assign]
        *one.network._peering.answer(request, Transactions([b"tx 1", b"a gift"]))
    ]
    submit(one, 1)
    village.run(0.5)
    assert two.refusals[PeerReason.BAD_PAYLOAD] == 1
    assert two.came == [wid(1)]


def test_inventing_hashes_costs_a_peer_its_own_share_only() -> None:
    village = village_of(3)
    liar, honest, victim = (village.people[f"n{number}"] for number in range(3))
    liar.network._gossip.pulled = lambda request: []  # type: ignore[method-assign]
    for batch in range(20):
        invented = Wids([wid(10**9 + batch * 1_024 + number) for number in range(1_024)])
        liar.perform(liar.network.say(liar.now_ms, victim.key, ANNOUNCE, pack_message(ANNOUNCE, invented)))
    village.run(0.2)
    assert len(victim.network._gossip._wanted) == MAX_WANTED_OF_PEER
    submit(honest, 1, 2, 3)
    village.run(0.5)
    assert sorted(victim.came) == [wid(1), wid(2), wid(3)]
    village.run(10)
    assert victim.network._gossip._wanted == {}, "what never comes is forgotten"
    assert victim.network._gossip._pulls == {}
    assert {peer.wanted for peer in victim.network._gossip._peers.values()} == {0}, (
        "and its share is free again"
    )


def test_a_flood_of_every_kind_leaves_bounded_memory_and_honest_traffic_flows() -> None:
    village = village_of(4)
    mallory, victim = village.people["n1"], village.people["n0"]
    victim.verdict = lambda delivered: (
        Verdict.IGNORE if delivered.payload.startswith(b"spam") else Verdict.ACCEPT
    )
    tracemalloc.start()
    for round_ in range(300):
        for number in range(40):
            name = b"spam %d %d" % (round_, number)
            mallory.perform(mallory.network.say(mallory.now_ms, victim.key, VOTE, name))
        mallory.perform(
            mallory.network.say(mallory.now_ms, victim.key, CANDIDATE, b"spam %d" % round_ + bytes(9_000))
        )
        announced = pack_message(ANNOUNCE, Wids([wid(round_ * 50 + number) for number in range(50)]))
        mallory.perform(mallory.network.say(mallory.now_ms, victim.key, ANNOUNCE, announced))
        village.run(0.05)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40_000_000
    assert victim.network._gossip._undecided == 0
    submit(village.people["n2"], 10**6)
    publish(village.people["n3"], b"final")
    village.run(1)
    assert victim.pool.has(wid(10**6)) and (CERTIFICATE.name, b"final") in victim.heard


def test_one_peer_cannot_fill_the_room_for_what_waits_for_a_verdict() -> None:
    village = village_of(3)
    slow, liar, honest = (village.people[f"n{number}"] for number in range(3))
    waiting: list[bytes] = []
    slow.verdict = lambda delivered: waiting.append(delivered.id)
    for number in range(12):
        big = number.to_bytes(4, "big") + bytes(1_200_000)
        liar.perform(liar.network.say(liar.now_ms, slow.key, CANDIDATE, big))
        village.run(2)
    assert len(waiting) == 3
    honest.perform(honest.network.say(honest.now_ms, slow.key, CANDIDATE, bytes(1_300_000)))
    village.run(2)
    assert len(waiting) == 4
    for id_ in waiting:
        slow.perform(slow.network.judge(slow.now_ms, id_, Verdict.IGNORE))
    gossip_ = slow.network._gossip
    assert (gossip_._undecided, gossip_._undecided_of) == (0, {})
    liar.perform(liar.network.say(liar.now_ms, slow.key, CANDIDATE, b"again" + bytes(1_200_000)))
    village.run(2)
    assert len(waiting) == 5


def test_what_we_say_ourselves_while_it_waits_for_a_verdict_waits_no_more() -> None:
    """A certificate is heard, and formed here from votes before the node has looked at it."""
    village = village_of(3)
    slow, teller = village.people["n0"], village.people["n1"]
    waiting: list[bytes] = []
    slow.verdict = lambda delivered: waiting.append(delivered.id)
    teller.perform(teller.network.say(teller.now_ms, slow.key, CERTIFICATE, b"final"))
    village.run(1)
    publish(slow, b"final")
    gossip_ = slow.network._gossip
    assert (gossip_._undecided, gossip_._undecided_of) == (0, {})
    slow.perform(slow.network.judge(slow.now_ms, waiting[0], Verdict.ACCEPT))
    assert (gossip_._undecided, gossip_._undecided_of) == (0, {})


def test_who_tells_the_same_again_is_blamed_for_it_once() -> None:
    village = village_of(3)
    slow, liar = village.people["n0"], village.people["n1"]
    waiting: list[bytes] = []
    slow.verdict = lambda delivered: waiting.append(delivered.id)
    for _ in range(4):
        liar.perform(liar.network.say(liar.now_ms, slow.key, CERTIFICATE, b"wrong"))
        village.run(1)
    slow.perform(slow.network.judge(slow.now_ms, waiting[0], Verdict.REJECT))
    assert slow.refusals[PeerReason.INVALID] == 1


def test_what_waits_for_a_verdict_is_bounded() -> None:
    village = village_of(6)
    one, others = village.people["n0"], [village.people[f"n{number}"] for number in range(1, 6)]
    one.verdict = lambda _: None
    for number in range(20):
        big = number.to_bytes(4, "big") + bytes(1_200_000)
        teller = others[number % 5]
        teller.perform(teller.network.say(teller.now_ms, one.key, CANDIDATE, big))
        village.run(2)
    assert one.network._gossip._undecided <= gossip.MAX_UNDECIDED_BYTES
    assert one.refusals[PeerReason.BUFFERS_FULL] >= 5
