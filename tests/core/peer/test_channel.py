"""Records: what is said arrives whole, whatever the network does to the pieces; what does not belong is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.core.peer.channel import MAX_PLAINTEXT, MAX_RECORD, Channel
from aitbc.core.peer.handshake import Handshake, prologue_of, public_key_of
from aitbc.core.peer.reasons import PeerFault, PeerReason

PROLOGUE = prologue_of(chain_id="ait-test", genesis_hash=bytes(32))


def strangers() -> tuple[Channel, Channel]:
    return (
        Channel(Handshake(initiator=True, prologue=PROLOGUE, static=b"A" * 32, ephemeral=b"a" * 32)),
        Channel(Handshake(initiator=False, prologue=PROLOGUE, static=b"B" * 32, ephemeral=b"b" * 32)),
    )


def friends() -> tuple[Channel, Channel]:
    alice, bob = strangers()
    bob.receive(alice.outgoing())
    alice.receive(bob.outgoing())
    bob.receive(alice.outgoing())
    return alice, bob


def reason(channel: Channel, data: bytes) -> PeerReason:
    with pytest.raises(PeerFault) as caught:
        channel.receive(data)
    return caught.value.reason


def test_two_strangers_become_friends() -> None:
    alice, bob = strangers()
    hello = alice.outgoing()
    assert (len(hello), alice.outgoing(), bob.outgoing()) == (34, b"", b"")
    assert bob.receive(hello) == []
    answer = bob.outgoing()
    assert len(answer) == 98
    assert alice.receive(answer) == []
    assert alice.open and not bob.open
    assert bob.receive(alice.outgoing() + alice.seal(b"first")) == [b"first"]
    assert bob.open
    assert (alice.remote, bob.remote) == (public_key_of(b"B" * 32), public_key_of(b"A" * 32))
    assert alice.receive(bob.seal(b"second")) == [b"second"]


@given(st.lists(st.integers(1, 90_000), min_size=1, max_size=5), st.integers(1, 70_000))
@settings(max_examples=40, deadline=None)
def test_what_is_said_arrives_whole_in_any_pieces(sizes: list[int], piece: int) -> None:
    alice, bob = friends()
    said = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream = b"".join([alice.seal(part) for part in said])
    heard = [
        part for start in range(0, len(stream), piece) for part in bob.receive(stream[start : start + piece])
    ]
    assert b"".join(heard) == b"".join(said)
    assert max(map(len, heard)) <= MAX_PLAINTEXT


def test_a_handshake_arrives_whole_byte_by_byte() -> None:
    alice, bob = strangers()
    for turn in range(3):
        speaker, hearer = (alice, bob) if turn % 2 == 0 else (bob, alice)
        for byte in speaker.outgoing():
            hearer.receive(bytes([byte]))
    assert alice.open and bob.open


@pytest.mark.parametrize("length", [0, 31, 33, MAX_RECORD])
def test_a_handshake_of_another_length_is_refused_before_it_arrives(length: int) -> None:
    _, bob = strangers()
    assert reason(bob, length.to_bytes(2, "big")) is PeerReason.BAD_HANDSHAKE_LENGTH


@pytest.mark.parametrize("length", [0, 1, 16])
def test_a_record_that_carries_nothing_is_refused(length: int) -> None:
    _, bob = friends()
    assert reason(bob, length.to_bytes(2, "big")) is PeerReason.EMPTY_RECORD


@pytest.mark.parametrize("place", [2, 10, -1])
def test_a_changed_byte_ends_it(place: int) -> None:
    alice, bob = friends()
    sealed = bytearray(alice.seal(b"pay 5"))
    sealed[place] ^= 1
    assert reason(bob, bytes(sealed)) is PeerReason.DECRYPTION_FAILED


def test_one_record_is_all_that_is_held() -> None:
    alice, bob = friends()
    record = alice.seal(b"x" * MAX_PLAINTEXT)
    assert len(record) == 2 + MAX_RECORD
    bob.receive(record[:-1])
    assert len(bob._buffer) < 2 + MAX_RECORD
    assert bob.receive(record[-1:]) == [b"x" * MAX_PLAINTEXT]
    assert bob._buffer == b""


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=200, deadline=None)
def test_made_up_bytes_raise_only_the_declared_fault(noise: bytes, after: bool) -> None:
    _, bob = friends() if after else strangers()
    allowed = {
        PeerReason.BAD_HANDSHAKE_LENGTH,
        PeerReason.DECRYPTION_FAILED,
        PeerReason.EMPTY_RECORD,
        PeerReason.BAD_KEY,
    }
    try:
        assert bob.receive(noise) == []
    except PeerFault as caught:
        if caught.reason not in allowed:
            raise
