"""The address book: who may be in it, who gives way, and that it is the same after a restart."""

import random
from pathlib import Path

import pytest

from aitbc.adapters.network.book_file import load_book, save_book
from aitbc.core.peer.addresses import LOCAL, group_of, join_where, numeric_where, owner_of, split_where
from aitbc.core.peer.book import FORGET_MS, HOPELESS, AddressBook, Entry
from aitbc.core.peer.dialling import Connected, Dialler
from aitbc.core.peer.draws import Draws
from aitbc.core.peer.kinds import PeerAddress
from aitbc.core.peer.peers import PeerSettings
from aitbc.core.peer.scores import Scores
from aitbc.ports import StorageError

KEY = b"k" * 32
SOURCE = "v4 50.50"

ADDRESSES = [
    # text, one spelling, network, banned with it
    ("93.184.216.34:7070", "93.184.216.34:7070", "v4 93.184", "93.184.216.34"),
    ("[2600:1406::1]:7070", "[2600:1406::1]:7070", "v6 2600:1406", "2600:1406:0000:0000"),
    ("[2600:1406:0::0001]:7070", "[2600:1406::1]:7070", "v6 2600:1406", "2600:1406:0000:0000"),
    ("[::ffff:93.184.216.34]:1", "93.184.216.34:1", "v4 93.184", "93.184.216.34"),
    ("127.0.0.1:7070", "127.0.0.1:7070", LOCAL, ""),
    ("10.0.0.1:7070", "10.0.0.1:7070", LOCAL, ""),
    ("[::1]:7070", "[::1]:7070", LOCAL, ""),
    ("node.example:7070", None, "name node.example:7070", ""),
    ("0.0.0.0:7070", None, LOCAL, ""),
    ("224.0.0.1:7070", None, "v4 224.0", "224.0.0.1"),
    ("[fe80::1%eth0]:7070", None, "name [fe80::1%eth0]:7070", ""),
    ("93.184.216.34", None, "name 93.184.216.34", ""),
    ("93.184.216.34:0", None, "name 93.184.216.34:0", ""),
    ("93.184.216.34:65536", None, "name 93.184.216.34:65536", ""),
    ("93.184.216.34:+1", None, "name 93.184.216.34:+1", ""),
    ("93.184.216.34:١", None, "name 93.184.216.34:١", ""),
    ("093.184.216.34:1", None, "name 093.184.216.34:1", ""),
    ("2600:1406::1:7070", None, "name 2600:1406::1:7070", ""),
    ("", None, "name ", ""),
]


@pytest.mark.parametrize(("text", "spelling", "network", "owner"), ADDRESSES, ids=[a[0] for a in ADDRESSES])
def test_addresses(text: str, spelling: str | None, network: str, owner: str) -> None:
    assert (numeric_where(text), group_of(text), owner_of(text)) == (spelling, network, owner)
    if spelling is not None:
        parts = split_where(spelling)
        assert parts is not None and join_where(*parts) == spelling


def book() -> AddressBook:
    return AddressBook(b"s" * 32)


def told(where: str, key: bytes = b"") -> PeerAddress:
    return PeerAddress(where, key)


def test_a_told_key_keeps_nobody_from_dialling() -> None:
    """Mallory lists every honest address under its own key, and is connected; another key of hers is banned."""
    settings = PeerSettings(key=b"u" * 32, settings_hash=bytes(32), agent="test")
    scores = Scores()
    scores.ban(b"b" * 32, "99.9.0.1:1", 0)
    dialler = Dialler(settings, scores=scores, secret=b"s" * 32, book=None, configured=())
    wheres = [f"{20 + number}.1.0.1:7070" for number in range(40)]
    for number, where in enumerate(wheres):
        dialler.book.hear(told(where), source="v4 50.50", now_ms=0)
        dialler.book.hear(told(where, (KEY, b"b" * 32)[number % 2]), source="v4 99.9", now_ms=1)
    there = Connected(
        keys=frozenset({KEY}), wheres=frozenset(), groups=frozenset(), chosen=0, introduced=1, news_ms=0
    )
    dials = []
    for minute in range(60):
        for dial in dialler.due(minute * 60_000, there):
            dials.append(dial)
            dialler.take(dial.dial)
    assert {dial.where for dial in dials} == {where for where in wheres if dialler.book.get(where)}
    assert {dial.key for dial in dials} == {b""}, "nor does anybody wait for it there"


def test_a_proved_key_is_not_replaced_by_a_told_one_and_not_dialled_while_it_is_here() -> None:
    pages = book()
    pages.hear(told("93.1.1.1:1", KEY), source=SOURCE, now_ms=0, seen=True)
    pages.hear(told("93.1.1.1:1", b"m" * 32), source=SOURCE, now_ms=0, seen=True)
    pages.hear(told("93.1.1.2:1", b"m" * 32), source=SOURCE, now_ms=0)
    pages.proved("93.1.1.2:1", KEY)
    for where in ("93.1.1.1:1", "93.1.1.2:1"):
        entry = pages.get(where)
        assert entry is not None and entry.sure_key == KEY
        pages.mistaken(where)
        assert entry.sure_key == b"", "another node answers there now"


def test_hearsay_is_believed_by_kind_of_teller() -> None:
    pages = book()
    assert pages.hear(told("93.1.1.1:1"), source=SOURCE, now_ms=0)
    assert not pages.hear(told("10.0.0.1:1"), source=SOURCE, now_ms=0), "not our neighbours, from a stranger"
    assert pages.hear(told("10.0.0.1:1"), source=LOCAL, now_ms=0)
    assert not pages.hear(told("name.example:1"), source=LOCAL, now_ms=0)
    assert len(pages) == 2


def test_one_network_of_tellers_has_its_share_and_no_more() -> None:
    pages = book()
    draw = random.Random(1)
    for _ in range(20_000):
        where = f"{draw.randrange(1, 9)}.{draw.randrange(256)}.{draw.randrange(256)}.1:1"
        pages.hear(told(where), source=SOURCE, now_ms=0)
    assert 300 <= len(pages) <= 32 * 16
    for number in range(200):
        pages.hear(told(f"93.{number}.1.1:1"), source=f"v4 93.{number}", now_ms=0)
    honest = sum(pages.get(f"93.{number}.1.1:1") is not None for number in range(200))
    assert honest >= 150, "there is room for others"


def test_an_address_that_never_answered_gives_way() -> None:
    pages = book()
    entry = Entry(where="93.1.1.1:1", key=b"", source=SOURCE, heard_ms=0)
    assert not entry.gives_way(0)
    entry.failures = HOPELESS
    assert entry.gives_way(0)
    entry.success_ms = 1
    assert not entry.gives_way(FORGET_MS) and entry.gives_way(FORGET_MS + 2)
    assert pages.get("93.1.1.1:1") is None


def test_waiting_doubles_up_to_an_hour() -> None:
    entry = Entry(where="93.1.1.1:1", key=b"", source=SOURCE, heard_ms=0, attempt_ms=1_000)
    waits = []
    for failures in (0, 1, 2, 6, 20):
        entry.failures = failures
        waits.append(next(s for s in range(0, 4_000, 10) if entry.ready(1_000 + s * 1_000)))
    assert waits == [10, 20, 40, 640, 3_600]


def test_a_contested_place_goes_to_the_feeler_first() -> None:
    """Both want one place among the tried: who is there stays until it fails."""
    pages = book()
    old = "93.1.1.1:1"
    pages.hear(told(old), source=SOURCE, now_ms=0)
    pages.answered(old, KEY, 0)
    spot = pages._spot(pages._entries[old], tried=True)
    rival = next(
        where
        for where in (f"93.1.{a}.{b}:1" for a in range(250) for b in range(1, 250))
        if where != old
        and pages._spot(Entry(where=where, key=b"", source=SOURCE, heard_ms=0), tried=True) == spot
    )
    pages.hear(told(rival), source="v4 77.7", now_ms=0)
    pages.answered(rival, KEY, 10)
    assert (pages._entries[old].tried, pages._entries[rival].tried) == (True, False)
    feeler = pages.pick_feeler(Draws(bytes(32)), 10_000_000, lambda _: True)
    assert feeler is not None and feeler.where == old
    pages.attempted(old, 10_000_000)
    pages.answered(rival, KEY, 10_000_001)
    assert pages._entries[rival].tried
    assert old not in pages._entries or not pages._entries[old].tried


def test_who_answered_within_the_hour_keeps_its_place_through_a_restart() -> None:
    pages = book()
    old = "93.1.1.1:1"
    pages.hear(told(old), source=SOURCE, now_ms=0)
    pages.answered(old, KEY, 0)
    spot = pages._spot(pages._entries[old], tried=True)
    rival = next(
        where
        for where in (f"93.1.{a}.{b}:1" for a in range(250) for b in range(1, 250))
        if where != old
        and pages._spot(Entry(where=where, key=b"", source=SOURCE, heard_ms=0), tried=True) == spot
    )
    pages.hear(told(rival), source="v4 77.7", now_ms=0)
    pages.attempted(old, 1_000_000)
    pages.answered(rival, KEY, 1_000_001)
    assert (pages._entries[old].tried, pages._entries[rival].tried) == (True, False)


def test_a_wrong_key_was_hearsay() -> None:
    pages = book()
    pages.hear(told("93.1.1.1:1", KEY), source=SOURCE, now_ms=0)
    pages.mistaken("93.1.1.1:1")
    entry = pages.get("93.1.1.1:1")
    assert entry is not None and entry.key == b""
    pages.hear(told("93.1.1.1:1", b"n" * 32), source=SOURCE, now_ms=0)
    assert entry.key == b"n" * 32


def test_samples_are_small_distinct_and_not_the_askers_own() -> None:
    pages = book()
    for number in range(100):
        pages.hear(told(f"93.{number}.1.1:1"), source=f"v4 93.{number}", now_ms=0)
        pages.answered(f"93.{number}.1.1:1", bytes([number]) * 32, 1)
    sample = pages.sample(Draws(bytes(32)), 32, 1, but=bytes([7]) * 32)
    assert len({peer.where for peer in sample}) == len(sample) <= 32
    assert len(sample) >= 20
    assert all(peer.key != bytes([7]) * 32 for peer in sample)


@pytest.mark.parametrize("seed", range(4))
def test_places_and_entries_agree_after_any_history_and_restart(seed: int, tmp_path: Path) -> None:
    pages, draw = AddressBook(bytes([seed]) * 32), random.Random(seed)
    wheres = [f"93.{number % 40}.{number}.1:1" for number in range(250)]
    for now_ms in range(4_000):
        where = draw.choice(wheres)
        match draw.randrange(5):
            case 0 | 1:
                pages.hear(told(where), source=f"v4 9.{draw.randrange(5)}", now_ms=now_ms)
            case 2:
                pages.attempted(where, now_ms)
            case 3:
                pages.answered(where, KEY, now_ms)
            case _:
                if draw.random() < 0.1:
                    pages.forget(where)
        pages.pick(Draws(bytes(32)), now_ms, lambda _: True)
    for table, tried in ((pages._new, False), (pages._tried, True)):
        placed = {where for bucket in table.values() for where in bucket.values()}
        assert placed == {entry.where for entry in pages._entries.values() if entry.tried is tried}
    record = pages.to_record([told("93.1.1.1:1", KEY)])
    save_book(tmp_path / "book", record)
    assert load_book(tmp_path / "book") == record
    again = AddressBook.from_record(record)
    assert again._entries == pages._entries and again._new == pages._new and again._tried == pages._tried


def test_the_books_file(tmp_path: Path) -> None:
    path = tmp_path / "peers.book"
    assert load_book(path) is None
    save_book(path, book().to_record([]))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="damaged"):
        load_book(path)
    with pytest.raises(StorageError, match="cannot be written"):
        save_book(tmp_path / "missing" / "book", book().to_record([]))
