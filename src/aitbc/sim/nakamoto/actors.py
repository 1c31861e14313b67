"""Nodes that do not keep to the rules, by name."""

from collections.abc import Callable

import msgspec

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import BuildBlock
from aitbc.core.consensus.nakamoto.engine import (
    MAX_HEADERS,
    HeaderAnnounced,
    HeadersArrived,
    NakamotoEvent,
)
from aitbc.core.consensus.nakamoto.work import seal_of, target_of
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason
from aitbc.sim.nakamoto.blocks import BAD, OpaqueBlock, sealed, template
from aitbc.sim.nakamoto.node import Node


class Selfish(Node):
    """Keeps its blocks to itself while it leads, and shows them when the others come near (Eyal and Sirer, 2014)."""

    _shown = 0
    """Height up to which it hands out its chain."""

    def announce(self, header: Header) -> None:
        if header.proposer != self.name:
            self._show()

    def on(self, event: NakamotoEvent) -> None:
        super().on(event)
        is_near = isinstance(event, HeaderAnnounced) and event.header.height >= len(self.chain) - 2
        if is_near and self._shown < len(self.chain) - 1:
            self._show()

    def _show(self) -> None:
        self._shown = len(self.chain) - 1
        super().announce(self.head)

    def give_headers(self, to: Node, locator: list[bytes]) -> None:
        whole, self.chain = self.chain, self.chain[: self._shown + 1]
        super().give_headers(to, locator)
        self.chain = whole


class BadAuthor(Node):
    """Its blocks have all the work they need, and a body that the state refuses; it stands on them itself."""

    def _build(self, effect: BuildBlock) -> None:
        self.waiting = [BAD + effect.parent]
        super()._build(effect)

    def _fault_of(self, block: OpaqueBlock, parent: Header) -> Reason | None:
        return None


class Withholder(Node):
    """Shows headers and never hands out a block."""

    def give_block(self, to: Node, hash_: bytes) -> None:
        pass


class Liar(Node):
    """Follows, and sends everybody what is wrong in one way after the other: without work, backdated, out of turn,
    on nothing, and a long branch of little work to whoever asks."""

    EVERY_MS = 400

    def start(self) -> None:
        super().start()
        self._said = 0
        self._later(self.EVERY_MS, self._lie)

    def _lie(self) -> None:
        lies: list[Callable[[], Header]] = [
            self._without_work,
            self._backdated,
            self._out_of_turn,
            self._on_nothing,
            self._weak,
        ]
        self.announce(lies[self._said % len(lies)]())
        self._said += 1
        self._later(self.EVERY_MS, self._lie)

    def _child(self, *, timestamp_ms: int | None = None, author: str | None = None) -> Header:
        body = b"%d" % self._said
        at_ms = self.head.timestamp_ms + 5_000 if timestamp_ms is None else timestamp_ms
        return template(self.head, body, timestamp_ms=at_ms, author=author or self.name)

    def _seal(self, header: Header, target: int) -> Header:
        return sealed(header, target, auth_key=self._key if self.rules.is_signed else None)

    def _without_work(self) -> Header:
        return msgspec.structs.replace(self._child(), seal=seal_of(0, bytes(64 * self.rules.is_signed)))

    def _backdated(self) -> Header:
        header = self._child(timestamp_ms=self.head.timestamp_ms - 1_000)
        return self._seal(header, self.engine.head.child_target)

    def _out_of_turn(self) -> Header:
        header = self._child(timestamp_ms=self.head.timestamp_ms + 1, author=self.name)
        return self._seal(header, self.engine.head.child_target)

    def _on_nothing(self) -> Header:
        """What costs only the least difficulty, and makes others ask for a branch."""
        header = msgspec.structs.replace(
            self._child(), parent=self._said.to_bytes(32, "big"), height=len(self.chain) + 3
        )
        return self._seal(header, target_of(self.rules.settings.least_difficulty))

    def _weak(self) -> Header:
        """Beside the newest final block, where work was worth something once."""
        final = self.blocks[self.chain[self.final_height]].header
        header = template(final, b"weak", timestamp_ms=final.timestamp_ms + 5_000, author=self.name)
        return self._seal(header, self.engine.final.child_target)

    def give_headers(self, to: Node, locator: list[bytes]) -> None:
        """A full answer of headers that cost nothing."""
        parent = self.blocks[self.chain[self.final_height]].header
        flood: list[Header] = []
        while len(flood) < MAX_HEADERS:
            parent = self._seal(
                template(parent, b"flood", timestamp_ms=parent.timestamp_ms + 1, author=self.name), 2**256 - 1
            )
            flood.append(parent)
        assert header_hash(flood[0]) == flood[1].parent
        self._tell(to, HeadersArrived(self.name, True, flood))
