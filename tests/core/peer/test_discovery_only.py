"""A node that only lists: everybody learns from it who is there, nobody is its peer, nobody holds that against it."""

from aitbc.core.peer.frames import FrameReader, Type, frame
from aitbc.core.peer.kinds import CONSENSUS_GET, GET_PEERS, PeerList, pack_message, unpack_answer
from aitbc.core.peer.links import Close, Linked, Received, Send
from aitbc.core.peer.peering import Peering
from aitbc.core.peer.peers import DISCOVERY, PeerSettings, PeerUp, Refusal
from aitbc.core.peer.reasons import PeerReason
from support.village import SETTINGS_HASH, STATUS, Village, Villager, where_of

KIOSK = where_of(50)


def kiosk_of(village: Village, **settings: object) -> Villager:
    defaults = {"lists_only": True, "features": (DISCOVERY,), "listens": True, "listen": ""}
    return village.add("kiosk", KIOSK, **(defaults | settings))


def test_who_knows_a_discovery_only_node_alone_finds_all_the_others() -> None:
    village = Village()
    kiosk = kiosk_of(village)
    people = [village.add(f"n{number}", where_of(number), bootstrap=(KIOSK,)) for number in range(6)]
    village.run(150)
    newcomer = village.add("newcomer", where_of(9), bootstrap=(KIOSK,))
    village.run(12)
    assert newcomer.friends == {person.name for person in people}
    assert kiosk.friends == set() and not kiosk.of(PeerUp), "nobody stays"
    assert kiosk.network.held()["links"][0] == 0


def test_it_refuses_by_name_and_nobody_gets_points() -> None:
    village = Village()
    kiosk = kiosk_of(village)
    alice = village.add("alice", where_of(1), bootstrap=(KIOSK,))
    bob = village.add("bob", where_of(2), bootstrap=(KIOSK,))
    village.run(120)
    assert Refusal(kiosk.key, PeerReason.REFUSED, "discovery_only") in alice.events
    for person, others in ((alice, (kiosk, bob)), (bob, (kiosk, alice)), (kiosk, (alice, bob))):
        scores = person.network._peering.scores
        assert [scores.points(other.key, person.now_ms) for other in others] == [0, 0], person.name
    assert alice.friends == {"bob"}


def test_it_dials_back_and_stops_telling_who_is_gone() -> None:
    village = Village()
    kiosk = kiosk_of(village)
    alice = village.add("alice", where_of(1), bootstrap=(KIOSK,))
    village.run(3)
    assert ("kiosk", alice.where) in village.dials, "it looks whether somebody is there"
    assert kiosk.network.known == (1, 1)
    alice.crash()
    village.run(700)
    assert kiosk.network.known == (1, 0)
    bob = village.add("bob", where_of(2), bootstrap=(KIOSK,))
    village.run(5)
    assert ("bob", alice.where) not in village.dials
    assert bob.friends == set()


def test_a_node_does_not_become_the_peer_of_who_only_asks() -> None:
    """The kiosk knows Alice from its operator: she tells it addresses, and has no peer of that kind."""
    village = Village()
    alice = village.add("alice", where_of(1))
    bob = village.add("bob", where_of(2), bootstrap=(alice.where,))
    village.run(5)
    kiosk = kiosk_of(village, bootstrap=(alice.where,))
    village.run(30)
    assert alice.friends == {"bob"} and bob.friends == {"alice"}
    assert not [up for up in alice.of(PeerUp) if up.key == kiosk.key]
    assert kiosk.network._peering._dialler.book.get(bob.where) is not None, "alice told of him"
    asked = [where for name, where in village.dials if name == "kiosk" and where == alice.where]
    assert len(asked) <= 7, "twice as long between each two"


def test_it_answers_who_asks_for_addresses_without_a_hello_and_nothing_else() -> None:
    peering = Peering(
        PeerSettings(
            key=b"k" * 32,
            settings_hash=SETTINGS_HASH,
            agent="kiosk",
            lists_only=True,
        ),
        status=STATUS,
        secret=b"s" * 32,
    )
    peering.step(1_000, Linked(1, b"a" * 32, where_of(1), None))
    data = frame(Type.REQUEST, 1, GET_PEERS.wire, pack_message(GET_PEERS, b""))
    (answer,) = peering.step(1_000, Received(1, data))
    assert isinstance(answer, Send)
    ((head, payload),) = FrameReader(lambda _head: None).feed(answer.data)
    assert isinstance(payload, bytes) and head.type == Type.ANSWER
    assert isinstance(unpack_answer(GET_PEERS, payload), PeerList)
    effects = peering.step(1_000, Received(1, frame(Type.REQUEST, 2, CONSENSUS_GET.wire, b"x")))
    (close,) = [effect for effect in effects if isinstance(effect, Close)]
    assert close.reason is PeerReason.NOT_INTRODUCED
