"""The seeds' metric names and what an operator needs beside them, read from the running node when somebody asks.

Each is listed in docs/spec/rpc.md "Metrics".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from aitbc import __version__
from aitbc.node.measures import Histogram
from aitbc.node.network import PeerNetwork
from aitbc.node.service import NodeService
from aitbc.node.work_runtime import WorkRuntime

if TYPE_CHECKING:
    from prometheus_client import Metric

SCALARS = {
    "blockchain_blocks_total": "Blocks finalised since start",
    "blockchain_transactions_total": "Transactions finalised since start",
    "blockchain_height": "Height of the newest final block",
    "blockchain_network_peers": "Connected peers",
    "blockchain_mempool_transactions": "Transactions that wait",
    "blockchain_mempool_bytes": "What waits, in bytes",
    "blockchain_followers": "WebSockets that follow this node",
    "blockchain_submit_streams": "WebSockets that submit transactions",
    "blockchain_rate_limited_total": "Requests refused because their address or key asked too often",
    "blockchain_consensus_rounds": "Slots that are over since start",
    "blockchain_consensus_skipped_total": "Slots that ended without a block since start",
    "blockchain_consensus_timeouts_total": "Slots that this node voted to skip since start",
    "blockchain_consensus_epoch": "Running epoch",
    "blockchain_consensus_slot": "Smallest slot of the epoch that is not over",
    "blockchain_consensus_final_slot": "Newest final slot of the epoch",
    "blockchain_consensus_voting": "1 while this node votes",
    "blockchain_consensus_faults_total": "Validators seen to contradict themselves, by epoch",
}
"""Of one figure. A name that ends in _total is a counter."""
OF_WORK = {
    "blockchain_final_height": "Height of the newest block that is final by depth",
    "blockchain_reorganisations_total": "Times that the chain left blocks for a better branch since start",
    "blockchain_reorganisation_depth": "Most blocks that it left at once since start",
    "blockchain_blocks_mined_total": "Heads of this node's own making since start",
    "blockchain_mining_tries_total": "Nonces that this node tried since start",
    "blockchain_mining_tries_per_second": "Nonces that it tries a second, over the last ten",
    "blockchain_held_blocks": "Blocks that are not on the chain and are kept",
    "blockchain_held_block_bytes": "Their size",
    "blockchain_held_headers": "Headers above the newest final block, on the chain and beside it",
}
"""Where work agrees, instead of those of votes."""
BY_VALIDATOR = {
    "blockchain_validator_votes_missed_total": ("missed", "Slots in which no vote of it was seen in time"),
    "blockchain_validator_slots_skipped_total": ("skipped", "Slots of its own that ended without its block"),
    "blockchain_validator_slots_led_total": ("led", "Slots of its own that ended with its candidate"),
    "blockchain_validator_proposals_invalid_total": ("invalid", "Proposals of its own that were not valid"),
}
BY_LABEL = {
    "blockchain_transactions_dropped_total": ("reason", "Transactions dropped after admission"),
    "blockchain_transactions_refused_total": (
        "reason",
        "Transactions that were good in form and not taken in",
    ),
    "blockchain_followers_dropped_total": ("reason", "Followers let go"),
    "blockchain_network_refused_total": ("reason", "What peers sent and was not taken"),
    "blockchain_network_addresses": (
        "state",
        "Addresses of other nodes: those known, and of them those that answered",
    ),
    "blockchain_queue_depth": ("queue", "What waits"),
}
INFO = ("blockchain_info", "Release, chain and role, as labels")
REFUSED_BY_NETWORK, ADDRESSES = (
    (name, BY_LABEL[name][1]) for name in ("blockchain_network_refused_total", "blockchain_network_addresses")
)
"""Also those of a node that is for discovery only."""
HISTOGRAMS = {
    "blockchain_block_interval_seconds": "Between the timestamps of blocks",
    "blockchain_commit_seconds": "Time to write a block",
    "blockchain_finality_seconds": "From a block's timestamp until it is final here",
    "blockchain_agreement_log_seconds": "Time for an append to the agreement log to be safe on disk",
    "blockchain_signer_guard_seconds": "Time for a change of the signer guard to be safe on disk",
}


class _Collector:
    def __init__(self, service: NodeService, limited: Callable[[], int]) -> None:
        self._service = service
        self._runtime = service.runtime
        self._limited = limited

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        chain_id, role = self._runtime.executor.head.block.header.chain_id, self._service.config.role
        info = GaugeMetricFamily(*INFO, labels=["version", "chain_id", "role"])
        info.add_metric([__version__, chain_id, role], 1)
        yield info
        scalars = self._scalars()
        for name, text in SCALARS.items():
            if name not in scalars:
                continue  # of votes, where there are none
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, text, value=scalars[name])
        for name, figure in self._work_scalars().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, OF_WORK[name], value=figure)
        members = {} if self._is_work else self._runtime.engine().record.members
        for name, (field, text) in BY_VALIDATOR.items():
            counted = CounterMetricFamily(name, text, labels=["validator"])
            for address, member in members.items():
                counted.add_metric([address], getattr(member, field))
            yield counted
        labelled = self._labelled()
        for name, (label, text) in BY_LABEL.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            figures = family(name, text, labels=[label])
            for value, count in labelled[name].items():
                figures.add_metric([value], count)
            yield figures
        histograms = self._histograms()
        for name, text in HISTOGRAMS.items():
            histogram = histograms.get(name)
            if histogram is not None:
                yield HistogramMetricFamily(
                    name, text, buckets=histogram.buckets(), sum_value=histogram.sum_s
                )

    def _scalars(self) -> dict[str, float]:
        runtime, height = self._runtime, self._runtime.executor.head.block.header.height
        figures: dict[str, float] = {
            "blockchain_blocks_total": max(0, height - runtime.started_height),
            "blockchain_transactions_total": runtime.measures.transactions,
            "blockchain_height": height,
            "blockchain_network_peers": runtime.neighbours.peers if runtime.neighbours else 0,
            "blockchain_mempool_transactions": len(runtime.replica.mempool),
            "blockchain_mempool_bytes": runtime.replica.mempool.total_bytes,
            "blockchain_followers": len(runtime.subscriptions),
            "blockchain_submit_streams": len(self._service.senders),
            "blockchain_rate_limited_total": self._limited(),
        }
        return figures if self._is_work else figures | self._of_votes()

    def _of_votes(self) -> dict[str, float]:
        runtime, engine = self._runtime, self._runtime.engine()
        return {
            "blockchain_consensus_rounds": engine.record.rounds,
            "blockchain_consensus_skipped_total": engine.record.skips,
            "blockchain_consensus_timeouts_total": engine.record.timeouts,
            "blockchain_consensus_epoch": engine.epoch.number,
            "blockchain_consensus_slot": engine.frontier,
            "blockchain_consensus_final_slot": engine.final_slot,
            "blockchain_consensus_voting": int(runtime.validates),
            "blockchain_consensus_faults_total": len(runtime.accuser.charges),
        }

    @property
    def _is_work(self) -> bool:
        return isinstance(self._runtime, WorkRuntime)

    def _work_scalars(self) -> dict[str, float]:
        runtime = self._runtime
        if not isinstance(runtime, WorkRuntime):
            return {}
        held, miner = runtime.work.held, runtime.miner
        return {
            "blockchain_final_height": runtime.work.engine.final.height,
            "blockchain_reorganisations_total": runtime.reorganisations,
            "blockchain_reorganisation_depth": runtime.deepest,
            "blockchain_blocks_mined_total": runtime.mined,
            "blockchain_mining_tries_total": miner.tries if miner else 0,
            "blockchain_mining_tries_per_second": miner.rate if miner else 0,
            "blockchain_held_blocks": held["blocks"],
            "blockchain_held_block_bytes": held["block_bytes"],
            "blockchain_held_headers": held["headers"],
        }

    def _labelled(self) -> dict[str, Mapping[str, int]]:
        runtime = self._runtime
        return {
            "blockchain_transactions_dropped_total": runtime.measures.dropped,
            "blockchain_transactions_refused_total": runtime.measures.refused,
            "blockchain_followers_dropped_total": runtime.subscriptions.dropped,
            "blockchain_network_refused_total": runtime.neighbours.refused if runtime.neighbours else {},
            "blockchain_network_addresses": _addresses(runtime.neighbours),
            "blockchain_queue_depth": runtime.queues(),
        }

    def _histograms(self) -> dict[str, Histogram]:
        """A node without a key writes neither log nor guard."""
        measures = self._runtime.measures
        found = {
            "blockchain_block_interval_seconds": measures.intervals,
            "blockchain_commit_seconds": measures.commits,
            "blockchain_finality_seconds": measures.finality,
        }
        scribe = self._runtime.scribe
        if scribe is not None:
            found["blockchain_agreement_log_seconds"] = scribe.log_writes
            found["blockchain_signer_guard_seconds"] = scribe.guard_writes
        return found


def _addresses(network: PeerNetwork | None) -> dict[str, int]:
    if network is None:
        return {}
    known, answering = network.known
    return {"known": known, "answering": answering}


def exposition(service: NodeService, limited: Callable[[], int]) -> tuple[bytes, str]:
    """Text format and its media type, with what the process uses; prometheus_client is imported at the first scrape.
    `limited`: requests that were refused for their rate."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(service, limited))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
