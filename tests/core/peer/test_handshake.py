"""Two strangers become two known nodes, or one of them says by name why not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from aitbc.core.peer.handshake import MAX_NONCE, Cipher, Handshake, prologue_of, public_key_of
from aitbc.core.peer.reasons import PeerFault, PeerReason

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "noise.json").read_text())["vectors"]
PROLOGUE = prologue_of(chain_id="ait-test", genesis_hash=bytes(32))
ALICE, BOB, EVE = (bytes([number]) * 32 for number in (1, 2, 3))


def pair(*, prologue: bytes = PROLOGUE, other_prologue: bytes | None = None) -> tuple[Handshake, Handshake]:
    """Alice dials Bob."""
    alice = Handshake(initiator=True, prologue=prologue, static=ALICE, ephemeral=b"a" * 32)
    bob = Handshake(
        initiator=False,
        prologue=prologue if other_prologue is None else other_prologue,
        static=BOB,
        ephemeral=b"b" * 32,
    )
    return alice, bob


def fault(action: Any, *arguments: Any) -> PeerReason:
    with pytest.raises(PeerFault) as caught:
        action(*arguments)
    return caught.value.reason


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["source"].split(",")[0] for vector in VECTORS])
def test_published_vectors(vector: dict[str, Any]) -> None:
    sides = [
        Handshake(
            initiator=role == "init",
            prologue=bytes.fromhex(vector[f"{role}_prologue"]),
            static=bytes.fromhex(vector[f"{role}_static"]),
            ephemeral=bytes.fromhex(vector[f"{role}_ephemeral"]),
        )
        for role in ("init", "resp")
    ]
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]
    for number, (payload, ciphertext) in enumerate(messages[:3]):
        writer, reader = sides[number % 2], sides[1 - number % 2]
        assert writer.write(payload) == ciphertext
        assert reader.read(ciphertext) == payload
    assert sides[0].hash == sides[1].hash
    if "handshake_hash" in vector:
        assert sides[0].hash == bytes.fromhex(vector["handshake_hash"])
    assert sides[0].remote == public_key_of(bytes.fromhex(vector["resp_static"]))
    assert sides[1].remote == public_key_of(bytes.fromhex(vector["init_static"]))
    ciphers = [side.split() for side in sides]
    for number, (payload, ciphertext) in enumerate(messages[3:], start=3):
        assert ciphers[number % 2][0].encrypt(payload) == ciphertext
        assert ciphers[1 - number % 2][1].decrypt(ciphertext) == payload


@pytest.mark.parametrize("ours_dials", [True, False], ids=["ours dials", "ours listens"])
def test_against_another_implementation(ours_dials: bool) -> None:
    ours = Handshake(initiator=ours_dials, prologue=PROLOGUE, static=ALICE, ephemeral=b"a" * 32)
    theirs = NoiseConnection.from_name(b"Noise_XX_25519_ChaChaPoly_SHA256")
    theirs.set_as_responder() if ours_dials else theirs.set_as_initiator()
    theirs.set_prologue(PROLOGUE)
    theirs.set_keypair_from_private_bytes(Keypair.STATIC, BOB)
    theirs.start_handshake()
    while not ours.finished:
        if ours.my_turn:
            theirs.read_message(ours.write())
        else:
            ours.read(bytes(theirs.write_message()))
    assert theirs.handshake_finished and theirs.get_handshake_hash() == ours.hash
    assert ours.remote == public_key_of(BOB)
    send, receive = ours.split()
    for number in range(3):
        assert theirs.decrypt(send.encrypt(b"there %d" % number)) == b"there %d" % number
        assert receive.decrypt(bytes(theirs.encrypt(b"back %d" % number))) == b"back %d" % number


def test_both_learn_who_the_other_is() -> None:
    alice, bob = pair()
    assert alice.my_turn and not bob.my_turn
    bob.read(alice.write())
    assert bob.remote == b"", "a first message proves nothing"
    alice.read(bob.write())
    assert alice.remote == public_key_of(BOB) and not alice.finished
    bob.read(alice.write())
    assert (alice.finished, bob.finished) == (True, True)
    assert bob.remote == public_key_of(ALICE)


@pytest.mark.parametrize(
    "other",
    [
        prologue_of(chain_id="ait-other", genesis_hash=bytes(32)),
        prologue_of(chain_id="ait-test", genesis_hash=b"\x01" * 32),
        b"",
    ],
    ids=["another chain's name", "another genesis", "no prologue"],
)
def test_another_chains_node_fails_at_the_second_message(other: bytes) -> None:
    alice, bob = pair(other_prologue=other)
    bob.read(alice.write())
    assert fault(alice.read, bob.write()) is PeerReason.DECRYPTION_FAILED


def test_the_prologue_cannot_be_read_two_ways() -> None:
    assert prologue_of(chain_id="ab", genesis_hash=b"c" * 32) != prologue_of(
        chain_id="a", genesis_hash=b"b" + b"c" * 31
    )


@pytest.mark.parametrize("step", [0, 1, 2])
def test_every_changed_byte_is_refused(step: int) -> None:
    """A changed first message shows at the second: nothing of it is authenticated before."""
    lengths = (32, 96, 64)
    for place in range(lengths[step]):
        alice, bob = pair()
        reasons: list[PeerReason] = []
        for number in range(3):
            writer, reader = (alice, bob) if number % 2 == 0 else (bob, alice)
            message = bytearray(writer.write())
            assert len(message) == lengths[number]
            if number == step:
                message[place] ^= 0x01
            try:
                reader.read(bytes(message))
            except PeerFault as caught:
                reasons.append(caught.reason)
                break
        assert reasons == [PeerReason.DECRYPTION_FAILED], f"byte {place} of message {step}"


@pytest.mark.parametrize("low", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_key_of_small_order_is_refused(low: bytes) -> None:
    _, bob = pair()
    bob.read(low)
    assert fault(bob.write) is PeerReason.BAD_KEY


@pytest.mark.parametrize("cut", [0, 1, 31])
def test_a_short_message_is_refused(cut: int) -> None:
    alice, bob = pair()
    assert fault(bob.read, alice.write()[:cut]) is PeerReason.BAD_HANDSHAKE_LENGTH


def test_a_static_key_cannot_be_borrowed() -> None:
    """Eve knows Alice's public key and plays the initiator with her own: Bob hears Eve."""
    eve = Handshake(initiator=True, prologue=PROLOGUE, static=EVE, ephemeral=b"e" * 32)
    _, bob = pair()
    bob.read(eve.write())
    eve.read(bob.write())
    forged = bytearray(eve.write())
    bob.read(bytes(forged))
    assert bob.remote == public_key_of(EVE) != public_key_of(ALICE)


def test_a_cipher_is_used_up_before_its_nonce_repeats() -> None:
    last = Cipher(bytes(32), nonce=MAX_NONCE - 1)
    last.encrypt(b"the last")
    assert fault(last.encrypt, b"one more") is PeerReason.NONCES_EXHAUSTED
    reader = Cipher(bytes(32), nonce=MAX_NONCE)
    assert fault(reader.decrypt, bytes(16)) is PeerReason.NONCES_EXHAUSTED


def test_replayed_and_reordered_messages_are_refused() -> None:
    send, first, second = Cipher(b"k" * 32), Cipher(b"k" * 32), Cipher(b"k" * 32)
    one, two = send.encrypt(b"one"), send.encrypt(b"two")
    assert first.decrypt(one) == b"one"
    assert fault(first.decrypt, one) is PeerReason.DECRYPTION_FAILED
    assert fault(second.decrypt, two) is PeerReason.DECRYPTION_FAILED


@given(st.binary(max_size=200), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_made_up_handshake_messages_raise_only_the_declared_fault(noise: bytes, step: int) -> None:
    alice, bob = pair()

    def talk() -> None:
        for number in range(3):
            writer, reader = (alice, bob) if number % 2 == 0 else (bob, alice)
            honest = writer.write()
            reader.read(noise if number == step else honest)

    assert fault(talk) in {
        PeerReason.BAD_HANDSHAKE_LENGTH,
        PeerReason.BAD_KEY,
        PeerReason.DECRYPTION_FAILED,
    }
