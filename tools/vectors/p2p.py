"""docs/spec/p2p.md: a conversation byte for byte, frames and payloads, and what is refused."""

from __future__ import annotations

from typing import Any

import by_the_book as book
import noise
from fixtures import genesis_hash, h

Json = Any

STATUS = [7, h("head"), 5]
HELLO = [1, 1, h("settings"), STATUS, 1_767_225_600_000, ":7070", "aitbc/0.2.0", ["votes"]]
PEER = ["203.0.113.5:7070", h("node")]


def frame(type_: int, id_: int, kind: bytes, payload: bytes) -> bytes:
    body = bytes([type_]) + id_.to_bytes(4, "big") + kind + b"\0" + payload
    return len(body).to_bytes(4, "big") + body


def record(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def p2p() -> Json:
    return {
        "spec": "docs/spec/p2p.md",
        "conversation": _conversation(),
        "frames": _frames(),
        "refused_frames": _refused_frames(),
        "payloads": _payloads(),
        "refused_payloads": _refused_payloads(),
    }


def _conversation() -> Json:
    """Alice dials Bob, says hello and is welcome."""
    prologue = book.fields(b"aitbc/p2p/1", b"ait-devnet", genesis_hash())
    secrets = {name: h(name) for name in ("alice static", "alice ephemeral", "bob static", "bob ephemeral")}
    talk = noise.Talk(prologue, *secrets.values())
    welcome = [True, "", HELLO, [PEER]]
    said = [
        ("alice", frame(1, 1, b"p2p:hello", book.msgpack(HELLO))),
        ("bob", frame(2, 1, b"", book.msgpack(welcome))),
        (
            "alice",
            frame(0, 2, b"gossip:consensus:vote", b"yes") + frame(0, 3, b"gossip:consensus:vote", b"no"),
        ),
        ("bob", frame(1, 1, b"p2p:get_peers", b"")),
        ("alice", frame(3, 1, b"", b"unavailable")),
    ]
    keys = {"alice": talk.to_responder, "bob": talk.to_initiator}
    counts = {"alice": 0, "bob": 0}
    records = [
        ["alice", record(talk.messages[0])],
        ["bob", record(talk.messages[1])],
        ["alice", record(talk.messages[2])],
    ]
    for who, plaintext in said:
        records.append([who, record(noise.seal(keys[who], noise.nonce_of(counts[who]), b"", plaintext))])
        counts[who] += 1
    return {
        "chain_id": "ait-devnet",
        "genesis_hash": genesis_hash().hex(),
        "prologue": prologue.hex(),
        **{name.replace(" ", "_"): secret.hex() for name, secret in secrets.items()},
        "alice_node_key": noise.public(secrets["alice static"]).hex(),
        "bob_node_key": noise.public(secrets["bob static"]).hex(),
        "handshake_hash": talk.h.hex(),
        "records": [{"from": who, "bytes": data.hex()} for who, data in records],
        "plaintexts": [{"from": who, "bytes": data.hex()} for who, data in said],
    }


def _frames() -> Json:
    cases = [
        (0, 1, b"gossip:consensus:vote", b"v"),
        (1, 1, b"p2p:hello", b"127.0.0.1:15151"),
        (1, 2**32 - 1, b"p2p:get_peers", b""),
        (2, 1, b"", b"\x01127.0.0.1:15151"),
        (3, 9, b"", b"rate_exceeded"),
        (0, 0, b"k" * 64, bytes(3)),
        (0, 5, "ключ".encode(), b"\0\0"),
    ]
    return [
        {"type": t, "id": i, "kind": k.hex(), "payload": p.hex(), "bytes": frame(t, i, k, p).hex()}
        for t, i, k, p in cases
    ]


def _refused_frames() -> Json:
    """`bytes` is the first part of a stream after which it is refused, and not before its last byte."""
    cases = [
        ("length 0", bytes(4), "bad_frame"),
        ("length 5", (5).to_bytes(4, "big"), "bad_frame"),
        ("length one above the limit", (4 * 2**20 + 256 * 2**10 + 1).to_bytes(4, "big"), "frame_too_large"),
        ("type 4", (20).to_bytes(4, "big") + b"\x04" + bytes(4), "bad_frame"),
        ("kind of 65 bytes", (200).to_bytes(4, "big") + bytes(5) + b"k" * 65, "bad_frame"),
        ("kind without end", (8).to_bytes(4, "big") + bytes(5) + b"abc", "bad_frame"),
        ("statement without kind", frame(0, 1, b"", b""), "bad_frame"),
        ("answer with a kind", frame(2, 1, b"k", b""), "bad_frame"),
    ]
    return [{"name": name, "bytes": data.hex(), "reason": reason} for name, data, reason in cases]


def _payloads() -> Json:
    """Records as arrays; `0x…` is a byte string."""
    messages: list[tuple[str, str, Any]] = [
        ("p2p:hello", "message", HELLO),
        ("p2p:hello", "answer", [True, "", HELLO, [PEER]]),
        ("p2p:hello", "answer", [False, "full", HELLO, []]),
        ("p2p:get_peers", "answer", [[PEER, ["[2001:db8::1]:7070", b""]]]),
        ("p2p:ping", "message", [2**32 - 1, STATUS]),
        ("p2p:ping", "answer", [0, STATUS]),
        ("p2p:bye", "message", ["leaving", ""]),
        ("tx:announce", "message", [[h("one"), h("two")]]),
        ("tx:pull", "message", [[h("one")]]),
        ("tx:pull", "answer", [[b"tx", b""]]),
        ("sync:blocks", "message", [2**53 - 1, 1_024]),
        ("sync:blocks", "answer", [[b"block"]]),
    ]
    return [
        {"kind": kind, "part": part, "record": _shown(value), "bytes": book.msgpack(value).hex()}
        for kind, part, value in messages
    ]


def _refused_payloads() -> Json:
    def changed(place: int, value: Any) -> list[Any]:
        return [value if place == i else field for i, field in enumerate(HELLO)]

    cases: list[tuple[str, str, bytes]] = [
        ("empty", "p2p:hello", b""),
        ("no msgpack", "p2p:hello", b"\xc1"),
        ("a map", "p2p:ping", b"\x80"),
        ("a field missing", "p2p:hello", book.msgpack(HELLO[:-1])),
        ("a field too many", "p2p:hello", book.msgpack([*HELLO, 1])),
        ("something after it", "p2p:ping", book.msgpack([1, STATUS]) + b"\0"),
        ("an integer spelled long", "p2p:ping", b"\x92\xcd\x00\x01" + book.msgpack(STATUS)),
        ("version 0", "p2p:hello", book.msgpack(changed(0, 0))),
        ("a settings hash of 31 bytes", "p2p:hello", book.msgpack(changed(2, bytes(31)))),
        ("a clock beyond 2^53 - 1", "p2p:hello", book.msgpack(changed(4, 2**53))),
        ("an agent of 65 characters", "p2p:hello", book.msgpack(changed(6, "a" * 65))),
        ("17 features", "p2p:hello", book.msgpack(changed(7, ["f"] * 17))),
        ("no hash", "tx:announce", book.msgpack([[]])),
        ("1,025 hashes", "tx:announce", book.msgpack([[bytes(32)] * 1_025])),
        ("a hash as text", "tx:pull", book.msgpack([["x" * 32]])),
        ("no blocks", "sync:blocks", book.msgpack([5, 0])),
    ]
    return [
        {"name": name, "kind": kind, "bytes": data.hex(), "reason": "bad_payload"}
        for name, kind, data in cases
    ]


def _shown(value: Any) -> Json:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return [_shown(item) for item in value] if isinstance(value, list) else value
