"""A liar in one kind of message: friendly in everything else, quick to pass on what it hears, so that it is asked."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aitbc.core.peer.kinds import ANNOUNCE, CANDIDATE, CERTIFICATE, KINDS, VOTE, Hello, Kind, PeerAddress
from aitbc.sim.network.actors import (
    lies_about_agreement,
    lies_about_blocks,
    lies_about_peers,
    lies_about_transactions,
    lies_about_work,
)
from aitbc.sim.network.actors.stranger import Line, Stranger

ACTS_BETWEEN_LIES = 4
PASSED_ON = (ANNOUNCE, CANDIDATE, VOTE, CERTIFICATE)


class Lie(msgspec.Struct, frozen=True, kw_only=True):
    """What a liar says of its own accord, and what it answers; both, where a kind is a question."""

    say: Callable[[Stranger, Line], bytes]
    answer: Callable[[Stranger, bytes], bytes] | None = None


LIES: dict[str, Lie] = {
    name: Lie(say=say, answer=answer)
    for table in (
        lies_about_peers.LIES,
        lies_about_transactions.LIES,
        lies_about_agreement.LIES,
        lies_about_blocks.LIES,
        lies_about_work.LIES,
    )
    for name, (say, answer) in table.items()
}
"""By kind. A kind that is not here fails a test: what nobody lies about, nobody has checked."""


class Liar(Stranger):
    def start(self) -> None:
        self._lying = [(kind, LIES[kind.name]) for kind in self.kinds or KINDS]
        self._acts = 0
        self._passed_on: set[bytes] = set()
        super().start()

    def act(self) -> None:
        self._acts += 1
        if self._acts % ACTS_BETWEEN_LIES:
            return
        for line in list(self.friends):
            for kind, lie in self._lying:
                self.say(line, kind, lie.say(self, line))

    def hello(self) -> Hello:
        hello = super().hello()
        if any(kind.name == "p2p:hello" for kind, _ in self._lying):
            return lies_about_peers.boasting(hello)
        return hello

    def known(self) -> list[PeerAddress]:
        return []

    def answer(self, line: Line, kind: Kind, payload: bytes) -> bytes | None:
        polite = super().answer(line, kind, payload)
        for lied_about, lie in self._lying:
            if kind is lied_about and lie.answer is not None:
                return lie.answer(self, payload)
        return polite

    def told(self, line: Line, kind: Kind, payload: bytes) -> None:
        if kind in PASSED_ON and payload not in self._passed_on:
            self._passed_on.add(payload)
            for other in self.friends:
                if other is not line:
                    self.say(other, kind, payload)
