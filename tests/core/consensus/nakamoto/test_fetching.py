"""Which block is asked of whom: a transcript of the window."""

from aitbc.core.consensus.nakamoto.fetching import MAX_IN_FLIGHT, MAX_PER_PEER, STALL_MS, Fetching

WANTED = [(b"%d" % number, number) for number in range(100)]
"""Hashes with the weight that a branch has at them."""


def fetching_with(*peers: str, weight: int = 1_000) -> Fetching:
    fetching = Fetching()
    for peer in peers:
        fetching.joined(peer)
        fetching.has_shown(peer, weight)
    return fetching


def test_the_window_is_spread_over_the_peers_and_bounded() -> None:
    fetching = fetching_with("bob", "carol", "dave", "erin", "frank")
    asked = fetching.plan(0, WANTED)
    assert sum(map(len, asked.values())) == len(fetching) == MAX_IN_FLIGHT
    assert max(map(len, asked.values())) <= MAX_PER_PEER
    assert asked["bob"][0] == b"0"
    assert asked["carol"][0] == b"1"
    assert fetching.plan(0, WANTED) == {}


def test_it_moves_when_a_block_comes() -> None:
    fetching = fetching_with("bob")
    fetching.plan(0, WANTED)
    fetching.arrived(b"0")
    assert fetching.plan(1, WANTED[1:]) == {"bob": [b"8"]}


def test_only_who_has_shown_the_branch_is_asked() -> None:
    fetching = fetching_with("bob", weight=1)
    fetching.joined("carol")
    fetching.has_shown("carol", 3)
    assert fetching.plan(0, WANTED[:4]) == {"bob": [b"0"], "carol": [b"1", b"2", b"3"]}


def test_anybody_is_asked_when_nobody_has_shown_it() -> None:
    fetching = fetching_with("bob", weight=0)
    assert fetching.plan(0, [(b"9", 9)]) == {"bob": [b"9"]}


def test_a_stalled_request_moves_to_another_peer() -> None:
    fetching = fetching_with("bob", "carol")
    assert fetching.plan(0, WANTED[:1]) == {"bob": [b"0"]}
    fetching.stalled(STALL_MS - 1)
    assert fetching.plan(STALL_MS - 1, WANTED[:1]) == {}
    fetching.stalled(STALL_MS)
    assert fetching.plan(STALL_MS, WANTED[:1]) == {"carol": [b"0"]}
    assert fetching.failures(b"0") == 1


def test_who_stalls_is_asked_for_less_until_blocks_come() -> None:
    fetching = fetching_with("bob")
    assert len(fetching.plan(0, WANTED)["bob"]) == 8
    fetching.stalled(STALL_MS)
    assert len(fetching.plan(STALL_MS, WANTED).get("bob", [])) == 1
    fetching.arrived(WANTED[0][0])
    assert len(fetching.plan(STALL_MS + 1, WANTED[1:])["bob"]) == 2


def test_who_does_not_have_a_block_is_not_asked_again_at_once() -> None:
    fetching = fetching_with("bob")
    fetching.plan(0, WANTED[:1])
    fetching.failed("bob", b"0", 10)
    assert fetching.plan(11, WANTED[:1]) == {}
    assert fetching.next_look_ms(11) == 11 + STALL_MS
    assert fetching.plan(10 + STALL_MS, WANTED[:1]) == {"bob": [b"0"]}


def test_another_peers_word_does_not_end_a_request() -> None:
    fetching = fetching_with("bob", "carol")
    fetching.plan(0, WANTED[:1])
    fetching.failed("carol", b"0", 1)
    assert (len(fetching), fetching.failures(b"0")) == (1, 0)


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    fetching = fetching_with("bob")
    fetching.plan(0, WANTED[:8])
    assert fetching.plan(1, [(b"new", 1)]) == {"bob": [b"new"]}
    assert len(fetching) == 1


def test_requests_of_a_peer_that_left_go_to_others() -> None:
    fetching = fetching_with("bob", "carol")
    fetching.plan(0, WANTED[:1])
    fetching.left("bob")
    assert fetching.plan(1, WANTED[:1]) == {"carol": [b"0"]}
