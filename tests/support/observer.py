"""A node without a key: it agrees to nothing and asks for nothing."""

from aitbc.core.consensus.engine import EngineEffect, EngineEvent
from aitbc.core.consensus.simplex.messages import Verified
from aitbc.core.consensus.simplex.wal import LogRecord


class Observer:
    is_settled = True

    def keeps(self, _message: Verified) -> bool:
        return False

    def start(self, _now_ms: int) -> list[EngineEffect]:
        return []

    def on(self, _now_ms: int, _event: EngineEvent) -> list[EngineEffect]:
        return []

    def live_records(self) -> list[LogRecord]:
        return []
