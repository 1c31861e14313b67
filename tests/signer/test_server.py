"""The signer's socket, and a node's side of it: restarts, strangers, broken messages."""

import multiprocessing
import os
import socket
import stat
import threading
from pathlib import Path

import msgspec
import pytest

from aitbc.adapters.signer import wire
from aitbc.adapters.signer.remote import RemoteSigner, SignerAway
from aitbc.adapters.signer.wire import VERSION, Hello, Sign, Signed, receive_answer, send_message
from aitbc.core.codec.digests import transaction_id
from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.reasons import Stops
from aitbc.core.types.transactions import Transaction
from aitbc.ports import StorageError
from aitbc.signer.main import GUARD_FILE, MAX_LINKS, SignerServer
from support.people import ALICE, VALIDATOR
from support.signers import GENESIS_HASH, RunningSigner, remote_of, running_signer, signer_config

A, B = b"a" * 32, b"b" * 32


def vote(slot: int, candidate: bytes = A) -> Statement:
    return Statement(kind="notar", epoch=0, slot=slot, candidate=candidate, digest=bytes([slot]) * 32)


def test_a_restart_between_two_votes_is_waited_for(tmp_path: Path) -> None:
    config = signer_config(tmp_path)
    first = RunningSigner(config)
    guard, key, _ = remote_of(config)
    guard.admit([vote(1)])
    signature = key.sign(vote(1).digest)
    first.stop()
    waiting = threading.Thread(target=guard.admit, args=([vote(1), vote(2)],))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive(), "it waits while nobody answers"
    with running_signer(config):
        waiting.join(10)
        assert not waiting.is_alive()
        assert key.sign(vote(1).digest) == signature, "the same again is the same signature"
        with pytest.raises(GuardRefuses, match="another machine"):
            guard.admit([vote(2, B)])


def test_a_node_that_stops_does_not_wait(tmp_path: Path) -> None:
    config = signer_config(tmp_path)
    running = RunningSigner(config)
    guard, _, remote = remote_of(config)
    running.stop()
    told: list[str] = []

    def ask() -> None:
        try:
            guard.admit([vote(1)])
        except Stops as error:
            told.append(str(error))

    waiting = threading.Thread(target=ask)
    waiting.start()
    remote.let_go()
    waiting.join(5)
    assert told == ["the node stops while its signer is away"]


def test_two_nodes_with_one_signer_cannot_sign_twice(tmp_path: Path) -> None:
    """The usual way to lose a stake: a spare node that was started too early."""
    with running_signer(signer_config(tmp_path)) as running:
        one, other = remote_of(running.config)[0], remote_of(running.config)[0]
        one.admit([vote(1)])
        with pytest.raises(GuardRefuses):
            other.admit([vote(1, B)])
        other.admit([vote(1)])


def test_another_key_or_another_guard_after_a_restart_stops_the_node(tmp_path: Path) -> None:
    config = signer_config(tmp_path)
    running = RunningSigner(config)
    guard, _, _ = remote_of(config)
    again, _, _ = remote_of(config)
    running.stop()
    with (
        running_signer(signer_config(tmp_path / "b", socket=config.socket, signer=ALICE)),
        pytest.raises(Stops, match="another key"),
    ):
        guard.admit([vote(1)])
    (config.data / GUARD_FILE).unlink()
    lost = signer_config(tmp_path, socket=config.socket, never_voted=False, guard_lost=True)
    with running_signer(lost), pytest.raises(Stops, match="start the node again"):
        again.admit([vote(1)])


def test_a_missing_guard_needs_somebodys_word(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="--never-voted"):
        SignerServer(signer_config(tmp_path, never_voted=False))
    with running_signer(signer_config(tmp_path, never_voted=False, guard_lost=True)) as running:
        assert remote_of(running.config)[0].vote_after_ms > 0


def test_two_signers_cannot_have_one_guard(tmp_path: Path) -> None:
    with running_signer(signer_config(tmp_path)), pytest.raises(StorageError, match="in use"):
        SignerServer(signer_config(tmp_path))


def test_no_signer_at_all_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Stops, match="aitbc signer start"):
        remote_of(signer_config(tmp_path), start_s=0)


def test_another_chains_signer_is_refused_at_the_start(tmp_path: Path) -> None:
    with running_signer(signer_config(tmp_path)) as running, pytest.raises(Stops, match="is for chain"):
        RemoteSigner(running.config.socket, b"x" * 32)


def test_evidence_is_signed_there_too(tmp_path: Path) -> None:
    config = signer_config(tmp_path)
    evidence = Transaction("EVIDENCE", VALIDATOR.address, 1, 100, b"{}", VALIDATOR.auth_key, b"")
    with running_signer(config):
        _, key, _ = remote_of(config)
        signature = key.sign_transaction(evidence, GENESIS_HASH)
        assert verify(VALIDATOR.auth_key, transaction_id(evidence, GENESIS_HASH), signature)
        with pytest.raises(GuardRefuses, match="EVIDENCE of its own"):
            key.sign_transaction(msgspec.structs.replace(evidence, type="TRANSFER"), GENESIS_HASH)
        with pytest.raises(KeyError):
            key.sign(bytes(32))  # a digest alone says nothing
    with pytest.raises(SignerAway):
        key.sign_transaction(evidence, GENESIS_HASH)


# Strangers


def connect(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.connect(str(path))
    link.settimeout(5)
    return link


def ended(link: socket.socket) -> bool:
    """Closed, with or without a reset for what was not read."""
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True


BROKEN = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x03abc",
    b"\0\0\0\x02\x91\xa5",
    b"GET / HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_message_ends_the_connection_and_nothing_else(data: bytes, tmp_path: Path) -> None:
    with running_signer(signer_config(tmp_path)) as running:
        link = connect(running.config.socket)
        link.sendall(data)
        assert ended(link)
        remote_of(running.config)[0].admit([vote(1)])


def test_a_message_that_does_not_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MESSAGE_S", 0.1)
    with running_signer(signer_config(tmp_path)) as running:
        link = connect(running.config.socket)
        link.sendall(b"\0\0")
        assert link.recv(1) == b""


def test_a_signer_that_says_nothing_is_left_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MESSAGE_S", 0.2)
    config = signer_config(tmp_path)
    running = RunningSigner(config)
    guard, _, _ = remote_of(config)
    running.stop()
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    config.socket.unlink(missing_ok=True)
    silent.bind(str(config.socket))
    silent.listen()
    waiting = threading.Thread(target=guard.admit, args=([vote(1)],))
    waiting.start()
    silent.accept()
    with running_signer(config):
        waiting.join(15)
        assert not waiting.is_alive()


def test_there_are_only_so_many_connections(tmp_path: Path) -> None:
    with running_signer(signer_config(tmp_path)) as running:
        links = [connect(running.config.socket) for _ in range(MAX_LINKS)]
        for link in links:
            send_message(link, Hello(VERSION, GENESIS_HASH))
            receive_answer(link)
        assert connect(running.config.socket).recv(1) == b""
        send_message(links[0], Sign([VoteRecord("notar", 0, 1, A)]))
        assert isinstance(receive_answer(links[0]), Signed)


def test_the_socket_and_all_files_are_the_owners(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with running_signer(signer_config(tmp_path)) as running:
            remote_of(running.config)[0].admit([vote(1)])
            paths = [running.config.socket, running.config.data, *running.config.data.iterdir()]
            assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths] == [0] * len(paths)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_turned_away_unless_named(tmp_path: Path) -> None:
    for users, answer in (((), "closed"), ((65534,), "welcome")):
        with running_signer(signer_config(tmp_path / answer, allowed_users=users)) as running:
            running.config.socket.parent.chmod(0o755)
            running.config.socket.chmod(0o666)
            context = multiprocessing.get_context("fork")
            said = context.Queue()
            child = context.Process(target=_as_nobody, args=(running.config.socket, said))
            child.start()
            assert said.get(timeout=10) == answer
            child.join(10)


def _as_nobody(path: Path, said: "multiprocessing.Queue[str]") -> None:
    os.setuid(65534)
    try:
        link = connect(path)
        send_message(link, Hello(VERSION, GENESIS_HASH))
        receive_answer(link)
        said.put("welcome")
    except (OSError, wire.LinkLost):
        said.put("closed")
