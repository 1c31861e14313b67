"""The list of a discovery service: owners, numbers, places, and whom a sample tells."""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from aitbc.core.peer.addresses import group_of, owner_of
from aitbc.core.peer.directory import (
    MAX_AT_OWNER,
    MAX_IN_GROUP,
    MAX_ROWS,
    RECHECK_MS,
    Directory,
)
from aitbc.core.peer.records import (
    MAX_LIFE_MS,
    MAX_SAMPLE,
    RecordReason,
    RecordRefused,
    SignedRecord,
    VerifiedRecord,
    sign_record,
    verify_record,
    verify_removal,
)
from support.listed_nodes import CHAIN, GENESIS, HOUR_MS, NOW_MS, ListedNode

NETWORK = (CHAIN, GENESIS)
ANN, EVE = ListedNode(1), ListedNode(2)


def good(signed: SignedRecord, now_ms: int = NOW_MS) -> VerifiedRecord:
    return verify_record(signed, now_ms=now_ms, allow_private=True)


def directory() -> Directory:
    return Directory(secret=bytes(32))


def listed_by(listing: Directory, now_ms: int = NOW_MS, limit: int = MAX_SAMPLE) -> list[str]:
    return [row.node_key for row in listing.sample(NETWORK, limit=limit, now_ms=now_ms)]


def refused(listing: Directory, signed: SignedRecord, now_ms: int = NOW_MS) -> RecordReason:
    with pytest.raises(RecordRefused) as caught:
        listing.accept(good(signed, now_ms), answered=0, now_ms=now_ms)
    return caught.value.reason


def test_the_life_of_a_record() -> None:
    """Published, renewed, silent, back, expired, forgotten."""
    listing = directory()
    listing.accept(good(ANN.signed()), answered=0, now_ms=NOW_MS)
    assert listed_by(listing) == [ANN.node_key]
    assert listing.sample(("other", GENESIS), limit=1, now_ms=NOW_MS) == []

    row = listing.accept(good(ANN.signed(NOW_MS + 1)), answered=0, now_ms=NOW_MS + 1)
    assert listing.due(NOW_MS + RECHECK_MS, most=9) == []
    assert listing.due(NOW_MS + 1 + RECHECK_MS, most=9) == [row]

    later = NOW_MS + 1 + RECHECK_MS
    silent = listing.checked(row, answered=None, now_ms=later)
    assert silent is not None
    assert listed_by(listing, later) == []
    assert listing.checked(row, answered=0, now_ms=later) is None, "that row is an older one"

    assert listing.checked(silent, answered=0, now_ms=later + 1) is not None
    assert listed_by(listing, later + 1) == [ANN.node_key]
    assert listed_by(listing, NOW_MS + 1 + HOUR_MS) == []
    assert listing.due(NOW_MS + 1 + HOUR_MS, most=9) == []
    assert listing.forget(NOW_MS + MAX_LIFE_MS) == []
    assert listing.forget(NOW_MS + 1 + MAX_LIFE_MS) == [ANN.node_key]
    assert len(listing) == 0


def test_attack_a_replayed_older_record_changes_nothing() -> None:
    listing = directory()
    old = ANN.signed(NOW_MS)
    listing.accept(good(ANN.signed(NOW_MS + 5)), answered=0, now_ms=NOW_MS + 5)
    assert refused(listing, old) == RecordReason.STALE_SEQUENCE
    assert refused(listing, ANN.signed(NOW_MS + 5)) == RecordReason.STALE_SEQUENCE


def test_attack_an_older_record_that_lives_longer_does_not_come_back_when_the_newer_expires() -> None:
    listing = directory()
    long = ANN.signed(NOW_MS, expires_ms=NOW_MS + MAX_LIFE_MS)
    listing.accept(good(ANN.signed(NOW_MS + 1, expires_ms=NOW_MS + 2)), answered=0, now_ms=NOW_MS)
    last_ms = NOW_MS + MAX_LIFE_MS - 1
    listing.forget(last_ms)
    assert refused(listing, long, last_ms) == RecordReason.STALE_SEQUENCE


def test_attack_a_removal_cannot_be_undone_by_a_replay_but_by_its_owner() -> None:
    listing = directory()
    listing.accept(good(ANN.signed(NOW_MS)), answered=0, now_ms=NOW_MS)
    listing.remove(verify_removal(ANN.removal(NOW_MS + 1), now_ms=NOW_MS))
    assert listed_by(listing) == []
    assert refused(listing, ANN.signed(NOW_MS)) == RecordReason.STALE_SEQUENCE
    with pytest.raises(RecordRefused, match="stale_sequence"):
        listing.remove(verify_removal(ANN.removal(NOW_MS + 1), now_ms=NOW_MS))
    listing.accept(good(ANN.signed(NOW_MS + 2)), answered=0, now_ms=NOW_MS)
    assert listed_by(listing) == [ANN.node_key]


def test_attack_somebody_else_can_neither_change_nor_remove_a_record() -> None:
    listing = directory()
    listing.accept(good(ANN.signed()), answered=0, now_ms=NOW_MS)
    stolen = ANN.record(NOW_MS + 1, record_key=EVE.record_key, endpoints=[EVE.endpoint])
    assert refused(listing, sign_record(stolen, EVE.seed)) == RecordReason.NOT_OWNER
    with pytest.raises(RecordRefused, match="unknown_node"):
        listing.remove(verify_removal(EVE.removal(NOW_MS + 1), now_ms=NOW_MS))
    assert listed_by(listing) == [ANN.node_key]


def test_attack_one_network_has_so_many_places_and_one_address_fewer() -> None:
    listing = directory()
    at_home = [ListedNode(n, f"9.9.9.9:{n}") for n in range(1, MAX_AT_OWNER + 2)]
    beside = [ListedNode(n, f"9.9.1.{n}:7070") for n in range(50, 50 + MAX_IN_GROUP)]
    for node in [*at_home[:-1], *beside[: MAX_IN_GROUP - MAX_AT_OWNER]]:
        listing.accept(good(node.signed()), answered=0, now_ms=NOW_MS)
    assert refused(listing, at_home[-1].signed()) == RecordReason.GROUP_FULL
    assert refused(listing, beside[-1].signed()) == RecordReason.GROUP_FULL
    listing.accept(good(at_home[0].signed(NOW_MS + 1)), answered=0, now_ms=NOW_MS)  # renewing needs no place

    listing.remove(verify_removal(at_home[0].removal(NOW_MS + 2), now_ms=NOW_MS))
    assert refused(listing, beside[-1].signed()) == RecordReason.GROUP_FULL, (
        "a place is kept until all is over"
    )


def test_a_row_that_moves_into_a_full_network_is_told_no_more() -> None:
    listing = directory()
    for number in range(MAX_IN_GROUP):
        node = ListedNode(number + 10, f"9.9.{number}.1:7070")
        listing.accept(good(node.signed()), answered=0, now_ms=NOW_MS)
    there = ListedNode(200, "9.9.77.1:7070").endpoint
    row = listing.accept(good(EVE.signed(endpoints=[EVE.endpoint, there])), answered=0, now_ms=NOW_MS)
    moved = listing.checked(row, answered=1, now_ms=NOW_MS)
    assert moved is not None
    assert (moved.reachable, moved.where) == (False, EVE.endpoint.where)


def test_attack_a_sample_cannot_be_steered_by_many_addresses_of_few_networks() -> None:
    """Four honest nodes of four networks, and 32 of an attacker's in two: half of a sample of four is honest at least,
    on average two thirds."""
    listing = directory()
    honest = {ListedNode(n, f"20.{n}.0.1:7070") for n in range(1, 5)}
    bad = [ListedNode(100 + n, f"66.{n % 2}.{n}.1:7070") for n in range(2 * MAX_IN_GROUP)]
    for node in [*honest, *bad]:
        listing.accept(good(node.signed()), answered=0, now_ms=NOW_MS)
    keys = {node.node_key for node in honest}
    told: Counter[str] = Counter()
    for _ in range(300):
        sample = listed_by(listing, limit=4)
        assert len(set(sample)) == 4
        assert len(keys & set(sample)) >= 2
        told.update(keys & set(sample))
    assert min(told.values()) > 150 and max(told.values()) < 250
    assert len(listed_by(listing, limit=1_000)) == MAX_SAMPLE, "never the whole list"


def test_a_full_directory_refuses_newcomers_and_renews() -> None:
    listing = directory()
    listing.accept(good(ANN.signed()), answered=0, now_ms=NOW_MS)
    row = listing.get(ANN.node_key)
    assert row is not None
    listing._rows.update({str(number): row for number in range(MAX_ROWS - 1)})
    assert refused(listing, EVE.signed()) == RecordReason.DIRECTORY_FULL
    listing.accept(good(ANN.signed(NOW_MS + 1)), answered=0, now_ms=NOW_MS)


def test_whatever_comes_in_whatever_order_no_number_is_taken_twice_and_the_tables_agree() -> None:
    """Random records, removals, calls and sweeps over hours, beside a model that never forgets."""
    random = Random(20_261)
    nodes = [ListedNode(number, f"{20 + number % 3}.1.{number}.1:7070") for number in range(1, 7)]
    listing, highest, now_ms = directory(), dict.fromkeys([node.node_key for node in nodes], 0), NOW_MS
    pool: list[VerifiedRecord] = []
    taken = 0
    for _ in range(1_500):
        now_ms += random.randrange(0, 400_000)
        node = random.choice(nodes)
        match random.randrange(5):
            case 0:
                life = random.randrange(1, MAX_LIFE_MS + 1)
                pool.append(good(node.signed(now_ms, expires_ms=now_ms + life), now_ms))
            case 1 if pool:
                old = random.choice(pool[-20:])
                with suppress(RecordRefused):
                    verify_record(old.signed, now_ms=now_ms, allow_private=True)
                    listing.accept(old, answered=0, now_ms=now_ms)
                    assert old.record.sequence > highest[old.record.node_key], "a replay was taken"
                    highest[old.record.node_key] = old.record.sequence
                    taken += 1
            case 2:
                with suppress(RecordRefused):
                    listing.remove(verify_removal(node.removal(now_ms), now_ms=now_ms))
                    highest[node.node_key] = now_ms
            case 3:
                for row in listing.due(now_ms, most=3):
                    listing.checked(row, answered=random.choice([0, None]), now_ms=now_ms)
            case _:
                listing.forget(now_ms)
        rows = list(listing)
        assert listing._groups == Counter(group_of(row.where) for row in rows)
        assert listing._owners == Counter(owner_of(row.where) for row in rows)
        live = {row.node_key for row in rows if row.live(now_ms)}
        assert set(listed_by(listing, now_ms)) == live
        told = listing._told.get(NETWORK, {})
        assert {key for keys in told.values() for key in keys} == {
            row.node_key for row in rows if row.reachable and row.signed is not None
        }
    assert taken > 50
