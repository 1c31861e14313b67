"""Seed 004's bytes, cut out of any pieces; what lies about its size is found before it costs anything."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.peer.frames import MAX_BODY, Cut, FrameReader, Head, Type, frame
from aitbc.core.peer.reasons import PeerFault, PeerReason


def keep(_: Head) -> None:
    return None


def cut(data: bytes, piece: int = 10**9) -> list[Cut]:
    reader = FrameReader(keep)
    return [part for at in range(0, len(data), piece) for part in reader.feed(data[at : at + piece])]


def test_the_seeds_bytes() -> None:
    """A hello as seed 004's nodes write it: length 4, type 1, id 4, kind and zero, payload."""
    expected = bytes.fromhex("0000001e0100000001") + b"p2p:hello\0" + b"127.0.0.1:15151"
    assert frame(Type.REQUEST, 1, b"p2p:hello", b"127.0.0.1:15151") == expected
    assert frame(Type.ANSWER, 1, b"", b"\x01") == bytes.fromhex("00000007 02 00000001 00 01")
    assert cut(expected) == [(Head(1, 1, b"p2p:hello", 15), b"127.0.0.1:15151")]


frames_ = st.builds(
    lambda type_, id_, kind, payload: (type_, id_, kind if type_ < 2 else b"", payload),
    st.sampled_from(Type),
    st.integers(0, 2**32 - 1),
    st.text("abc:", min_size=1, max_size=64).map(str.encode),
    st.binary(max_size=300),
)


@given(st.lists(frames_, max_size=6), st.integers(1, 90))
@settings(max_examples=200, deadline=None)
def test_frames_survive_any_pieces(said: list[tuple[Type, int, bytes, bytes]], piece: int) -> None:
    stream = b"".join(frame(*part) for part in said)
    assert cut(stream, piece) == [
        (Head(type_, id_, kind, len(payload)), payload) for type_, id_, kind, payload in said
    ]


BAD = [
    ("a body without room for a head", struct.pack(">I", 5), PeerReason.BAD_FRAME),
    ("a body of nothing", struct.pack(">I", 0), PeerReason.BAD_FRAME),
    ("a body above the limit", struct.pack(">I", MAX_BODY + 1), PeerReason.FRAME_TOO_LARGE),
    ("the largest length", b"\xff\xff\xff\xff", PeerReason.FRAME_TOO_LARGE),
    ("an unknown type", struct.pack(">IBI", 20, 4, 1), PeerReason.BAD_FRAME),
    ("a kind that never ends", struct.pack(">IBI", 500, 0, 1) + b"k" * 65, PeerReason.BAD_FRAME),
    ("a kind that ends after its frame", struct.pack(">IBI", 8, 0, 1) + b"abc\0", PeerReason.BAD_FRAME),
    ("a message without kind", frame(Type.PLAIN, 1, b"", b"x"), PeerReason.BAD_FRAME),
    ("a request without kind", frame(Type.REQUEST, 1, b"", b"x"), PeerReason.BAD_FRAME),
    ("an answer with a kind", frame(Type.ANSWER, 1, b"k", b"x"), PeerReason.BAD_FRAME),
    ("a refusal with a kind", frame(Type.REFUSAL, 1, b"k", b"x"), PeerReason.BAD_FRAME),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
@pytest.mark.parametrize("piece", [1, 1000])
def test_refused(data: bytes, reason: PeerReason, piece: int) -> None:
    with pytest.raises(PeerFault) as caught:
        cut(data, piece)
    assert caught.value.reason is reason


def test_a_length_is_judged_with_its_fourth_byte() -> None:
    reader = FrameReader(keep)
    assert list(reader.feed(b"\xff\xff\xff")) == []
    with pytest.raises(PeerFault, match="frame_too_large"):
        list(reader.feed(b"\xff"))


def test_what_is_judged_away_is_never_held() -> None:
    big = frame(Type.PLAIN, 1, b"flood", bytes(3_000_000))
    no = PeerFault(PeerReason.RATE_EXCEEDED, "flood")
    reader = FrameReader(lambda head: no if head.kind == b"flood" else None)
    held, heard = 0, []
    stream = big + frame(Type.PLAIN, 2, b"talk", b"hello")
    for at in range(0, len(stream), 65_519):
        heard += reader.feed(stream[at : at + 65_519])
        held = max(held, reader.buffered)
    assert heard == [(Head(0, 1, b"flood", 3_000_000), no), (Head(0, 2, b"talk", 5), b"hello")]
    assert held < 100
    assert not reader.inside


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_made_up_bytes_raise_only_the_declared_fault(noise: bytes, piece: int) -> None:
    try:
        cut(noise, piece)
    except PeerFault as caught:
        if caught.reason not in {PeerReason.BAD_FRAME, PeerReason.FRAME_TOO_LARGE}:
            raise
