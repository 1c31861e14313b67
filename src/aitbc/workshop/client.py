"""Ask a running workshop node something, over its own plain protocol. docs/spec/workshop.md "Our own kinds" """

import json
import socket
from typing import Any

from aitbc.core.peer.addresses import split_where
from aitbc.core.peer.frames import FrameReader, Type, frame
from aitbc.core.peer.reasons import PeerFault
from aitbc.workshop.core.kinds import ACCOUNT, ANCESTORS, STATUS, SUBMIT, Kind
from aitbc.workshop.core.reasons import WorkshopFault
from aitbc.workshop.core.texts import Block, Transaction, decode_text, parse_block

TIMEOUT_S = 10.0


class NoAnswer(Exception):
    """The node is not there, is none of ours, or talks nonsense."""


def status(where: str) -> dict[str, Any]:
    return _json(_ask(where, STATUS, b""))


def account(where: str, key: bytes) -> dict[str, Any]:
    return _json(_ask(where, ACCOUNT, key))


def submit(where: str, transaction: Transaction) -> str:
    """Empty when the node took it, else why not."""
    return _ask(where, SUBMIT, transaction.text.encode()).decode("utf-8", "replace")


def newest_blocks(where: str) -> list[Block]:
    """From the tip downwards."""
    text = _ask(where, ANCESTORS, b"")
    try:
        return [parse_block(one) for one in decode_text(text).split("\n")] if text else []
    except WorkshopFault as fault:
        raise NoAnswer(f"{where} answered nonsense: {fault}") from None


def _json(payload: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(payload)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswer("the node's answer is no JSON object")
    return answer


def _ask(where: str, kind: Kind, payload: bytes) -> bytes:
    parts = split_where(where)
    if parts is None:
        raise NoAnswer(f"{where} is no host:port")
    try:
        with socket.create_connection(parts, TIMEOUT_S) as connection:
            connection.sendall(frame(Type.REQUEST, 1, kind.name, payload))
            return _answer(connection)
    except TimeoutError:
        raise NoAnswer(f"{where} does not answer {kind.name.decode()}; is it one of ours?") from None
    except (OSError, PeerFault) as error:
        raise NoAnswer(f"{where}: {error}") from None


def _answer(connection: socket.socket) -> bytes:
    reader = FrameReader(lambda _: None)
    while data := connection.recv(65_536):
        for head, payload in reader.feed(data):
            if head.type == Type.ANSWER and head.id == 1 and isinstance(payload, bytes):
                return payload
    raise OSError("closed without an answer")
