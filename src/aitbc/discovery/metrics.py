"""Figures for an operator, read when somebody asks. Each is listed in docs/spec/discovery.md "Metrics"."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aitbc.discovery.service import Discovery

if TYPE_CHECKING:
    from prometheus_client import Metric

METRICS = {
    "discovery_nodes": (("state",), "Nodes that are known"),
    "discovery_requests_total": (("what", "outcome"), "Requests since start"),
    "discovery_calls_total": (("outcome",), "Dial-backs since start"),
}


class _Collector:
    def __init__(self, service: Discovery) -> None:
        self._service = service

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        figures: dict[str, Mapping[tuple[str, ...], int]] = {
            "discovery_nodes": {(state,): count for state, count in self._service.states().items()},
            "discovery_requests_total": {(what, end): n for (what, end), n in self._service.answers.items()},
            "discovery_calls_total": {(outcome,): count for outcome, count in self._service.calls.items()},
        }
        for name, (labels, text) in METRICS.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metric = family(name, text, labels=labels)
            for values, count in figures[name].items():
                metric.add_metric(values, count)
            yield metric


def exposition(service: Discovery) -> tuple[bytes, str]:
    """Text format and its media type; prometheus_client is imported at the first scrape."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(service))
    return generate_latest(registry), CONTENT_TYPE_LATEST
