"""When a block is due and how long to wait for it: integers, milliseconds, no clock of its own."""

import msgspec

BACKOFF_NUMERATOR, BACKOFF_DENOMINATOR = 13, 10
"""α = 1.3: each slot without finality waits longer, until waiting exceeds the real delay of the network."""
MAX_AHEAD_MS = 500
"""A timestamp further ahead of the voter's clock is not voted for yet; a condition for voting, not of validity."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The time constants of a network. The defaults are those of one region; T₀ is three message delays and the time
    to execute a block."""

    block_time_ms: int
    """Least time between blocks."""
    idle_ms: int
    """Without transactions, one empty block in this time."""
    timeout_ms: int = 600
    """T₀; 1,500 across oceans."""
    max_timeout_ms: int = 30_000
    standstill_ms: int = 1_000
    """T_s: without finality for so long, say again what was said."""
    dead_ms: int = 5_000
    """Who was silent for so long while a quorum was not is not waited for."""

    @property
    def relay_ms(self) -> int:
        """How long others have to show that they hold a certificate before it is sent to them: a hop and a half."""
        return self.timeout_ms // 4

    def timeout_after(self, slots: int) -> int:
        """T = min(T_max, T₀ · α^k), k = `slots` over since the newest final one. Finality alone resets it."""
        timeout = self.timeout_ms
        for _ in range(slots):
            if timeout >= self.max_timeout_ms:
                return self.max_timeout_ms
            timeout = timeout * BACKOFF_NUMERATOR // BACKOFF_DENOMINATOR + 1
        return min(timeout, self.max_timeout_ms)

    def due_ms(self, now_ms: int, *, parent_ms: int, entered_ms: int, work: bool, unfinal: bool) -> int:
        """When the slot's block is due.

        With work waiting, the least interval after the parent; without, the idle interval, unless the parent is not
        final yet and a slot's timeout did not change that. A parent from the future means that this clock is behind:
        the interval then counts from now.
        """
        since = min(now_ms, parent_ms)
        if work:
            return max(now_ms, since + self.block_time_ms)
        if unfinal:
            return max(now_ms, entered_ms + max(self.timeout_ms, self.block_time_ms))
        return max(now_ms, since + self.idle_ms)
