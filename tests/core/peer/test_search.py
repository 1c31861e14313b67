"""A question goes from hand to hand, and its answer back the same way."""

from typing import Any

import pytest

from aitbc.core.peer.kinds import ANNOUNCE, SEARCH_BLOCK, SEARCH_HOPS, Search, Wids, pack_message
from aitbc.core.peer.links import Send
from aitbc.core.peer.peers import Requested
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.peer.search import (
    AGAIN_MS,
    FANOUT,
    HOP_MS,
    MAX_OWN,
    MAX_PATHS,
    MAX_PATHS_OF_PEER,
    SEEN_MS,
)
from support.village import Village, Villager, where_of

TREASURE = b"t" * 32
GOOD = TREASURE + b" and what it names"
BAD = b"something else"


def line_of(count: int) -> list[Villager]:
    """Each knows the one before and the one after."""
    village = Village()
    people = [village.add("n0", where_of(0), max_peers=8)]
    for number in range(1, count):
        before = people[-1]
        people.append(village.add(f"n{number}", where_of(number), bootstrap=(before.where,), max_peers=8))
        people[-1].network._peering._dialler.book.hear = lambda *_, **__: False  # type: ignore[method-assign]
        before.network._peering._dialler.book.hear = lambda *_, **__: False  # type: ignore[method-assign]
    village.run(3)
    for number, person in enumerate(people):
        beside = {f"n{other}" for other in (number - 1, number + 1) if 0 <= other < count}
        assert person.friends == beside, "nobody heard of anybody else"
        person.events.clear()
    return people


def begin(who: Villager, name: bytes = TREASURE) -> None:
    who.perform(who.network.search(who.now_ms, SEARCH_BLOCK, name))


def run(who: Villager, seconds: float) -> None:
    who.village.run(seconds)


def paths_of(*people: Villager) -> int:
    """Questions and tickets that are open anywhere."""
    searching = [person.network._searching for person in people]
    return sum(len(s._paths) + len(s._tickets) + len(s._examined) + len(s._of_peer) for s in searching)


def test_an_answer_comes_back_over_three_hops_with_nothing_left_behind() -> None:
    people = line_of(4)
    people[3].treasure[TREASURE] = GOOD
    begin(people[0])
    run(people[0], 0.5)
    assert people[0].found == {TREASURE: GOOD}
    assert paths_of(*people) == 0


@pytest.mark.parametrize(("hops", "found"), [(SEARCH_HOPS + 1, GOOD), (SEARCH_HOPS + 2, None)])
def test_a_question_goes_so_far_and_no_further(hops: int, found: bytes | None) -> None:
    people = line_of(hops + 1)
    people[-1].treasure[TREASURE] = GOOD
    begin(people[0])
    run(people[0], 1)
    assert people[0].found == {TREASURE: found}, "and who finds nothing hears it at once"
    assert paths_of(*people) == 0


def test_more_hops_than_anybody_may_have_are_refused() -> None:
    one, two = line_of(2)
    question = Search(b"i" * 16, TREASURE, 0)
    far = b"\x93\xc4\x10" + question.id + b"\xc4\x20" + TREASURE + bytes([SEARCH_HOPS + 1])
    link = one.network._peering._by_key[two.key]
    data = link.session.ask(one.now_ms, SEARCH_BLOCK, far, 1)
    assert data is not None
    one.transport.send(Send(link.id, data, SEARCH_BLOCK.lane))
    run(one, 0.5)
    assert two.refusals[PeerReason.BAD_PAYLOAD] == 1


def test_a_question_that_comes_round_is_refused_and_everybody_is_asked_once() -> None:
    """A triangle: each passes it on to the other two less the one it came from."""
    village = Village()
    people = [village.add("n0", where_of(0), max_peers=8)]
    people += [village.add(f"n{n}", where_of(n), bootstrap=(where_of(0),), max_peers=8) for n in (1, 2)]
    village.run(60)
    assert people[1].friends == {"n0", "n2"}
    looked: list[str] = []
    for person in people:
        real = person.network.looked

        def counted(*arguments: Any, real: Any = real, name: str = person.name) -> Any:
            looked.append(name)
            return real(*arguments)

        person.network.looked = counted  # type: ignore[method-assign]
    begin(people[0])
    village.run(1)
    assert people[0].found == {TREASURE: None}
    assert sorted(looked) == ["n1", "n2"]
    assert paths_of(*people) == 0
    assert all(view.points == 0 for person in people for view in person.network.view(person.now_ms))


def test_it_is_never_passed_back() -> None:
    people = line_of(3)
    asked: list[Requested] = []
    people[0].network._searching.asked = lambda _, request: asked.append(request) or []  # type: ignore[method-assign,func-returns-value]
    begin(people[0])
    run(people[0], 0.5)
    assert people[0].found == {TREASURE: None}
    assert asked == [], "nobody asked the searcher"


def test_a_liar_is_found_out_by_the_next_hop_and_the_searcher_hears_of_nothing() -> None:
    people = line_of(4)
    people[3].treasure[TREASURE] = BAD
    begin(people[0])
    run(people[0], 1)
    assert people[2].refusals[PeerReason.INVALID] == 1 and "n3" not in people[2].friends
    assert people[0].found == {TREASURE: None}
    assert {"n1"} == people[0].friends, "who asked on its behalf is not blamed"


def test_a_liar_beside_an_honest_peer_changes_nothing() -> None:
    village = Village()
    people = [village.add(f"n{n}", where_of(n), max_peers=8) for n in range(2)]
    people.append(village.add("n2", where_of(2), bootstrap=(where_of(0), where_of(1)), max_peers=8))
    village.run(60)
    liar, honest, asker = people
    liar.treasure[TREASURE], honest.treasure[TREASURE] = BAD, GOOD
    begin(asker)
    village.run(1)
    assert asker.found == {TREASURE: GOOD}
    assert paths_of(*people) == 0


def test_a_path_is_forgotten_and_who_came_by_it_hears_no() -> None:
    """The end never answers: each hop gives up before the one that asked it, and the answer that comes at last goes
    nowhere."""
    people = line_of(3)
    middle, end = people[1], people[2]
    late: list[tuple[int, bytes]] = []
    real = end.network.looked
    end.network.looked = lambda now, id_, content: late.append((now, id_)) or []  # type: ignore[method-assign,func-returns-value]
    end.treasure[TREASURE] = GOOD
    begin(people[0])
    run(people[0], HOP_MS * (SEARCH_HOPS + 1) / 1000 + 1.2)
    assert people[0].found == {TREASURE: None}
    assert paths_of(middle, end) == 0
    ((_, id_),) = late
    end.perform(real(end.now_ms, id_, GOOD))
    run(people[0], 1)
    assert people[0].found == {TREASURE: None}
    assert all(view.points == 0 for person in people for view in person.network.view(person.now_ms))


def test_who_passed_a_question_on_and_left_leaves_nothing_open() -> None:
    people = line_of(3)
    people[2].network.looked = lambda *_: []  # type: ignore[method-assign]
    begin(people[0])
    run(people[0], 0.2)
    people[1].crash()
    run(people[0], 10)
    assert people[0].found == {TREASURE: None}
    assert paths_of(people[0], people[2]) == 0


def test_the_same_is_not_searched_for_again_at_once() -> None:
    people = line_of(2)
    begin(people[0])
    run(people[0], 0.5)
    people[1].treasure[TREASURE] = GOOD
    begin(people[0])
    run(people[0], AGAIN_MS / 1000 - 0.5)
    assert people[0].found == {TREASURE: None}
    begin(people[0])
    run(people[0], 0.5)
    assert people[0].found == {TREASURE: GOOD}


def test_own_searches_are_bounded() -> None:
    one, two = line_of(2)
    two.network.looked = lambda *_: []  # type: ignore[method-assign]
    for number in range(MAX_OWN + 10):
        begin(one, number.to_bytes(32, "big"))
        run(one, 0.6)
    assert len(one.network._searching._paths) <= MAX_OWN


def test_a_flood_of_questions_fills_its_senders_share_only_and_is_held_against_it() -> None:
    village = Village()
    victim = village.add("n0", where_of(0), max_peers=8)
    mallory, honest, far = (
        village.add(f"n{n}", where_of(n), bootstrap=(where_of(0),), max_peers=8) for n in (1, 2, 3)
    )
    village.run(60)
    victim.network.looked = lambda *_: []  # type: ignore[method-assign]
    session = mallory.network._peering._by_key[victim.key].session
    session._own_limits.allows = lambda *_: True  # type: ignore[method-assign]
    for number in range(60):
        question = Search(number.to_bytes(16, "big"), TREASURE, SEARCH_HOPS)
        mallory.perform(
            mallory.network.ask(mallory.now_ms, victim.key, SEARCH_BLOCK, question, ticket=number)
        )
        village.run(0.03)
    searching = victim.network._searching
    assert searching._of_peer == {mallory.key: MAX_PATHS_OF_PEER} and MAX_PATHS_OF_PEER < MAX_PATHS
    assert len(searching._seen) == MAX_PATHS_OF_PEER
    assert victim.refusals[PeerReason.RATE_EXCEEDED] >= 40
    del victim.network.looked  # type: ignore[attr-defined]
    far.treasure[TREASURE] = GOOD
    begin(honest)
    village.run(1)
    assert honest.found == {TREASURE: GOOD}
    village.run(SEEN_MS / 1000 + 20)
    assert searching._seen == {} and paths_of(victim) == 0


def test_twenty_nodes_find_what_one_of_them_has() -> None:
    village = Village()
    village.add("n0", where_of(0), max_peers=6)
    for number in range(1, 20):
        village.add(f"n{number}", where_of(number), bootstrap=(where_of(0),), max_peers=6)
    village.run(120)
    owner = village.people["n13"]
    owner.treasure[TREASURE] = GOOD
    others = [person for person in village.people.values() if person is not owner]
    for _ in range(5):  # a question takes other ways the next time
        for person in others:
            if person.found.get(TREASURE) is None:
                begin(person)
                village.run(8)
        village.run(10)
    assert all(person.found[TREASURE] == GOOD for person in others)
    village.run(20)
    assert paths_of(*village.people.values()) == 0
    assert any(len(person.network.peers) > FANOUT for person in others), "not everybody was asked each time"


def test_a_transaction_that_several_announced_and_none_delivers_is_searched_for() -> None:
    """Two have told of it and forgotten it; a friend of theirs has it still."""
    village = Village()
    owner = village.add("owner", where_of(0), max_peers=8)
    tellers = [village.add(f"t{n}", where_of(n), bootstrap=(where_of(0),), max_peers=8) for n in (1, 2)]
    asker = village.add("asker", where_of(3), bootstrap=(where_of(1), where_of(2)), max_peers=2)
    village.run(5)
    announcement = pack_message(ANNOUNCE, Wids([TREASURE]))
    owner.treasure[TREASURE] = GOOD
    for teller in tellers[: 1 if asker.friends < {"t1", "t2"} else 2]:
        teller.perform(teller.network.say(teller.now_ms, asker.key, ANNOUNCE, announcement))
    village.run(1)
    assert asker.found == {TREASURE: GOOD}


def test_one_that_a_single_peer_invented_is_not() -> None:
    one, two = line_of(2)
    two.perform(two.network.say(two.now_ms, one.key, ANNOUNCE, pack_message(ANNOUNCE, Wids([TREASURE]))))
    run(one, 2)
    assert one.found == {}
