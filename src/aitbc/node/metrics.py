"""The seeds' metric names, read from the running node when somebody asks."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aitbc.node.runtime import NodeRuntime

if TYPE_CHECKING:
    from prometheus_client import Metric


class _Collector:
    def __init__(self, runtime: NodeRuntime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        runtime = self._runtime
        height = runtime.executor.head.block.header.height
        blocks = height - runtime.started_height
        yield CounterMetricFamily("blockchain_blocks_total", "Blocks finalised since start", value=blocks)
        yield CounterMetricFamily(
            "blockchain_transactions_total",
            "Transactions finalised since start",
            value=runtime.transactions_total,
        )
        yield GaugeMetricFamily("blockchain_height", "Height of the newest final block", value=height)
        yield GaugeMetricFamily("blockchain_network_peers", "Connected peers", value=0)
        yield GaugeMetricFamily(
            "blockchain_mempool_transactions", "Transactions that wait", value=len(runtime.replica.mempool)
        )
        yield GaugeMetricFamily(
            "blockchain_commit_milliseconds", "Time to write the newest block", value=runtime.last_commit_ms
        )


def exposition(runtime: NodeRuntime) -> tuple[bytes, str]:
    """Text format and its media type; prometheus_client is imported at the first scrape."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(runtime))
    return generate_latest(registry), CONTENT_TYPE_LATEST
