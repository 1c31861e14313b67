"""When a chain may begin. Block times never fall, so a genesis far ahead would make the chain's clock stand still until
then: every node of it can be started, and no lock or epoch would ever end. docs/spec/genesis.md"""

from datetime import UTC, datetime

from aitbc.core.ledger.genesis import Genesis
from aitbc.core.types.reasons import Reason, Rejected

MAX_AHEAD_S = 24 * 3600
"""A chain may be made and its nodes started a day before it begins."""
MILLISECONDS_FROM = 100_000_000_000
"""As seconds this is the year 5138, as milliseconds 1973."""


def check_beginning(genesis: Genesis, *, now_ms: int) -> None:
    """Raises Rejected with what to do."""
    ahead = genesis.timestamp - now_ms // 1000
    if ahead <= MAX_AHEAD_S:
        return
    if genesis.timestamp >= MILLISECONDS_FROM:
        why = "that looks like milliseconds; it is in seconds"
    else:
        why = f"that is {datetime.fromtimestamp(genesis.timestamp, UTC):%Y-%m-%d %H:%M} UTC"
    raise Rejected(
        Reason.BAD_GENESIS,
        f"timestamp {genesis.timestamp} is more than a day ahead ({why}); block times begin there: make the genesis"
        " with a time that is near",
    )
