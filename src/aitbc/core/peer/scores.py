"""What peers did wrong, how fast it is forgotten, and who may not come back for a day.
docs/spec/p2p.md "Points"
"""

from collections import OrderedDict

import msgspec

from aitbc.core.peer.addresses import owner_of
from aitbc.core.peer.reasons import PeerReason

POINTS = {
    PeerReason.INVALID: 100,
    PeerReason.BAD_FRAME: 50,
    PeerReason.FRAME_TOO_LARGE: 50,
    PeerReason.PAYLOAD_TOO_LARGE: 50,
    PeerReason.BAD_PAYLOAD: 50,
    PeerReason.EMPTY_RECORD: 50,
    PeerReason.UNSOLICITED_ANSWER: 10,
    PeerReason.NOT_INTRODUCED: 10,
    PeerReason.SECOND_HELLO: 10,
    PeerReason.NOT_A_REQUEST: 10,
    PeerReason.NOT_ANSWERABLE: 10,
    PeerReason.SLOW_FRAME: 10,
    PeerReason.SLOW_PEER: 5,
    PeerReason.RATE_EXCEEDED: 1,
    PeerReason.TOO_MANY_REQUESTS: 1,
    PeerReason.LATE_ANSWER: 1,
    PeerReason.NO_ANSWER: 1,
    PeerReason.DUPLICATE_GOSSIP: 1,
}
"""Reasons that are not here cost nothing: what happens to honest nodes, and what a third party could cause."""
BAN_AT = 100
HALF_LIFE_MS = 15 * 60_000
BAN_MS = 24 * 3_600_000
MAX_SCORES = 4_096
"""Nodes with points; the one that was worst behaved longest ago is forgotten."""
MAX_BANS = 4_096


class Score(msgspec.Struct):
    points: int
    at_ms: int
    """When a half-life began."""


class Scores:
    """Points by node key, kept over reconnects."""

    def __init__(self) -> None:
        self._scores: OrderedDict[bytes, Score] = OrderedDict()
        self._bans: OrderedDict[bytes | str, int] = OrderedDict()
        """Until when, by node key and by address; in the order in which they end."""

    def add(self, key: bytes, reason: PeerReason, now_ms: int) -> bool:
        """Count an offence; whether it is one too many."""
        points = POINTS.get(reason, 0)
        if not points:
            return False
        score = self._scores.setdefault(key, Score(0, now_ms))
        _decay(score, now_ms)
        score.points += points
        self._scores.move_to_end(key)
        while len(self._scores) > MAX_SCORES:
            self._scores.popitem(last=False)
        return score.points >= BAN_AT

    def points(self, key: bytes, now_ms: int) -> int:
        score = self._scores.get(key)
        if score is None:
            return 0
        _decay(score, now_ms)
        return score.points

    def forgive(self, key: bytes) -> None:
        """Begin again at half a ban, for those that are throttled instead."""
        score = self._scores.get(key)
        if score is not None:
            score.points = BAN_AT // 2

    def ban(self, key: bytes, where: str, now_ms: int) -> None:
        """For a day: the node, and the public address it came from."""
        for name in (key, owner_of(where)):
            if name:
                self._bans[name] = now_ms + BAN_MS
                self._bans.move_to_end(name)
        while len(self._bans) > MAX_BANS:
            self._bans.popitem(last=False)
        self._scores.pop(key, None)

    def banned(self, now_ms: int, *, key: bytes = b"", where: str = "") -> bool:
        owner = owner_of(where) if where else ""
        return any(bool(name) and now_ms < self._bans.get(name, 0) for name in (key, owner))

    def held(self) -> dict[str, tuple[int, int]]:
        return {"scores": (len(self._scores), MAX_SCORES), "bans": (len(self._bans), MAX_BANS)}

    def bans(self, now_ms: int) -> dict[bytes | str, int]:
        """Who is banned and until when."""
        return {name: until for name, until in self._bans.items() if now_ms < until}


def _decay(score: Score, now_ms: int) -> None:
    halvings = max(0, now_ms - score.at_ms) // HALF_LIFE_MS
    score.points >>= min(halvings, 64)
    score.at_ms += halvings * HALF_LIFE_MS
