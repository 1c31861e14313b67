"""A node and discovery services that are honest, slow, broken or hostile: its address book takes hints, it takes no
harm."""

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.peer.addresses import LOCAL
from aitbc.core.peer.kinds import PeerAddress, Status
from aitbc.core.peer.peering import Peering
from aitbc.core.peer.peers import PeerSettings
from aitbc.core.peer.records import Endpoint, SignedRecord, sign_record, verify_record
from aitbc.node import finder
from aitbc.node.finder import Finder, Identity, source_of
from support.listed_nodes import CHAIN, GENESIS, NOW_MS, ListedNode

ANN, BEN, EVE = ListedNode(1), ListedNode(2), ListedNode(3)
BOMB = gzip.compress(bytes(30_000_000))
"""30 KB."""
Answer = Callable[[str, str, bytes], tuple[int, bytes]]
Story = Callable[[Finder, "Service", "Book"], Awaitable[Any]]


class Clock:
    def now_ms(self) -> int:
        return NOW_MS


class Book:
    """What the finder asks of the node's network."""

    def __init__(self) -> None:
        self.heard: list[tuple[list[PeerAddress], str]] = []
        self.peers = 0
        self.needs_more = True

    def hear_addresses(self, peers: Sequence[PeerAddress], *, source: str) -> None:
        self.heard.append((list(peers), source))


class Service:
    """A tiny HTTP server in this process that answers as a test says."""

    def __init__(self, answer: Answer | bytes) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        length = next(
            (int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length")), 0
        )
        body = await reader.readexactly(length)
        self.asked.append((method, path, body))
        if isinstance(self.answer, bytes):
            with suppress(ConnectionError):
                writer.write(self.answer)
                await reader.read()  # until the node hangs up
        else:
            status, raw = self.answer(method, path, body)
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(raw)) + raw)
        writer.close()


def play(answer: Answer | bytes, story: Story, *, announce: bool = False) -> Book:
    async def whole() -> Book:
        service, book = Service(answer), Book()
        server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        identity = Identity(
            chain_id=CHAIN,
            genesis_hash=GENESIS,
            static=ANN.secret,
            endpoint=ANN.endpoint if announce else None,
            agent="aitbc/test",
        )
        found = Finder([service.url], network=book, identity=identity, clock=Clock())  # type: ignore[arg-type]
        found.start()
        await story(found, service, book)
        await found.stop()
        server.close()
        return book

    return asyncio.run(asyncio.wait_for(whole(), 10))


async def until(what: Callable[[], Any]) -> None:
    while not what():
        await asyncio.sleep(0.005)


def listed(signed: SignedRecord, answered: int = 0) -> dict[str, Any]:
    return {**msgspec.to_builtins(signed), "answered": answered, "checked_ms": NOW_MS}


def sample(*items: dict[str, Any]) -> Answer:
    return lambda *_: (200, jcs({"items": list(items)}))


async def first_answer(_finder: Finder, _service: Service, book: Book) -> None:
    await until(lambda: book.heard)


def test_a_node_is_told_where_others_are() -> None:
    book = play(sample(listed(BEN.signed())), first_answer)
    assert book.heard == [([PeerAddress(BEN.endpoint.where, bytes.fromhex(BEN.node_key))], LOCAL)]


@pytest.mark.parametrize(
    "item",
    [
        listed(sign_record(BEN.record(), EVE.seed)),
        listed(BEN.signed(chain_id="other")),
        listed(BEN.signed(genesis_hash="cd" * 32)),
        listed(BEN.signed(NOW_MS - 4_000_000)),
        listed(BEN.signed(endpoints=[Endpoint(host="evil.example", port=1)])),
        listed(BEN.signed(), answered=1),
    ],
    ids=["forged", "other chain", "other genesis", "expired", "a name", "no such endpoint"],
)
def test_attack_what_is_no_good_record_is_left_out(item: dict[str, Any]) -> None:
    book = play(sample(item, listed(EVE.signed())), first_answer)
    assert [peer.where for peer in book.heard[0][0]] == [EVE.endpoint.where]


@contextmanager
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(finder, "ASK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(finder, "BACK_OFF_S", 0.02)
    yield


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no whole answer in 0.1 s"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 100_000, "sent more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + BOMB, "compresses its answer"),
        (b"SSH-2.0\r\n\r\n", "no answer (RemoteProtocolError)"),
        (lambda *_: (200, b"[" * 5_000), "its answer cannot be read"),
        (sample(*[listed(BEN.signed())] * 17), "its answer cannot be read"),
        (lambda *_: (302, b""), "answered 302"),
        (lambda *_: (503, b'{"code":"x","detail":"a\\u001b[2Jb"}'), "answered 503 x: a[2Jb;"),
    ],
    ids=[
        "silent",
        "endless",
        "a compressed bomb",
        "not HTTP",
        "nested",
        "too many",
        "redirect",
        "refusal with a terminal command",
    ],
)
def test_attack_a_bad_service_costs_a_bounded_call_now_and_then_and_one_line(
    answer: Any, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aitbc.node")

    async def story(_finder: Finder, service: Service, _book: Book) -> None:
        await until(lambda: len(service.asked) >= 3)

    with quick(monkeypatch):
        book = play(answer, story)
    assert book.heard == []
    (line,) = caplog.messages
    assert why in line


def test_a_service_that_comes_back_is_heard_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aitbc.node")

    async def story(_finder: Finder, service: Service, book: Book) -> None:
        await until(lambda: len(service.asked) >= 2)
        service.answer = sample(listed(BEN.signed()))
        await until(lambda: book.heard)

    with quick(monkeypatch):
        play(lambda *_: (500, b""), story)
    failed, works = caplog.messages
    assert failed.endswith(": answered 500")
    assert works.endswith(" works again")


def test_a_node_publishes_itself_and_leaves() -> None:
    async def story(_finder: Finder, service: Service, _book: Book) -> None:
        await until(lambda: any(method == "PUT" for method, _, _ in service.asked))
        told.append(service)

    told: list[Service] = []
    play(sample(), story, announce=True)
    (service,) = told
    calls = {method: (path, body) for method, path, body in service.asked}
    assert calls["PUT"][0] == calls["DELETE"][0] == f"/v1/nodes/{ANN.node_key}"
    signed = msgspec.json.decode(calls["PUT"][1], type=SignedRecord)
    record = verify_record(signed, now_ms=NOW_MS, allow_private=False).record
    assert record == ANN.record(agent="aitbc/test")
    assert msgspec.json.decode(calls["DELETE"][1])["removal"]["sequence"] == NOW_MS + 1


def test_stopping_waits_for_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "LEAVE_TIMEOUT_S", 0.1)

    async def story(found: Finder, service: Service, _book: Book) -> None:
        await until(lambda: len(service.asked) == 2)
        began = asyncio.get_running_loop().time()
        await found.stop()
        assert asyncio.get_running_loop().time() - began < 1

    play(b"", story, announce=True)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("http://127.0.0.1:4444", LOCAL),
        ("http://localhost:4444", LOCAL),
        ("http://192.168.1.4:4444", LOCAL),
        ("https://203.0.114.9", "v4 203.0"),
        ("https://discovery.example", "name discovery.example:443"),
    ],
)
def test_a_services_word_is_its_networks(url: str, source: str) -> None:
    assert source_of(url) == source


def test_what_a_service_says_counts_as_a_peers_word() -> None:
    """Local addresses are believed to local tellers only, our own is left out, and all of one service's together reach
    an eighth of the book."""
    settings = PeerSettings(key=bytes.fromhex(ANN.node_key), settings_hash=bytes(32), agent="test")
    peering = Peering(settings, status=Status(0, bytes(32), 0), secret=bytes(32))
    book = peering._dialler.book

    def hear(*wheres: str, key: bytes = b"", source: str = "name discovery.example:443") -> int:
        before = len(book)
        for where in wheres:
            peering.hear_addresses(0, [PeerAddress(where, key)], source=source)
        return len(book) - before

    assert hear("10.0.0.1:7070", "evil.example:1") == 0
    assert hear("9.9.9.9:7070", key=bytes.fromhex(ANN.node_key)) == 0
    assert hear("10.0.0.1:7070", source=LOCAL) == 1
    assert hear(*[f"{20 + n % 100}.{n // 100}.1.1:7070" for n in range(10_000)]) <= 32 * 16
