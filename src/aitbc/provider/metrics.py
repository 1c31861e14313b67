"""What an operator reads of a running provider: Prometheus text, made when somebody asks.

Each name is listed in docs/spec/provider.md "Metrics".
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aitbc.adapters.machine import available_bytes

if TYPE_CHECKING:
    from prometheus_client import Metric

    from aitbc.provider.provider import Provider

GAUGES = {
    "aitbc_provider_linked": "1 while a hub has us",
    "aitbc_provider_open": "1 while new tasks are welcome",
    "aitbc_provider_running": "Tasks under way",
    "aitbc_provider_slots": "Tasks that may be under way at once",
    "aitbc_provider_unclaimed_receipts": "Attested receipts that the chain has not paid yet",
    "aitbc_provider_engine_memory_bytes": "Memory of the engine child",
    "aitbc_provider_machine_free_bytes": "Memory that is left on the machine",
}
COUNTERS = {
    "aitbc_provider_engine_restarts_total": ((), "Fresh engine children since start"),
    "aitbc_provider_jobs_total": (("model", "exit_code"), "Tasks that ended, by how"),
    "aitbc_provider_units_total": (("model",), "Compute units delivered"),
    "aitbc_provider_bytes_out_total": (("model",), "Bytes delivered"),
    "aitbc_provider_gpu_seconds_total": (("model",), "Seconds in the engine, for what was delivered"),
}
HISTOGRAMS = {"aitbc_provider_job_seconds": ("model", "From a task's arrival to its delivery")}
CARD_GAUGES = {
    "aitbc_provider_vram_used_bytes": "Memory of a card that is taken, by whomever",
    "aitbc_provider_vram_total_bytes": "Memory of a card",
    "aitbc_provider_gpu_utilization_ratio": "Share of the last moments in which a card computed",
    "aitbc_provider_gpu_power_watts": "What a card draws",
}
"""By card, when the extra `nvml` is installed and a card is there."""


class _Collector:
    def __init__(self, provider: "Provider") -> None:
        self._provider = provider

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        gauges = gauges_of(self._provider)
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=gauges[name])
        counters = counters_of(self._provider)
        for name, (labels, text) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for values, count in counters[name].items():
                counter.add_metric(values, count)
            yield counter
        for name, (label, text) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(name, text, labels=[label])
            for model, durations in self._provider.worker.measures.durations.items():
                histogram.add_metric([model], buckets=durations.buckets(), sum_value=durations.sum_s)
            yield histogram
        cards = self._provider.cards.read()
        for name, text in CARD_GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["card"])
            for number, card in enumerate(cards):
                gauge.add_metric([str(number)], card[name])
            yield gauge


def gauges_of(provider: "Provider") -> dict[str, float]:
    return {
        "aitbc_provider_linked": int(provider.link is not None and provider.link.session is not None),
        "aitbc_provider_open": int(not provider.worker.closed_for and provider.engine.ready),
        "aitbc_provider_running": len(provider.worker.running),
        "aitbc_provider_slots": provider.config.slots,
        "aitbc_provider_unclaimed_receipts": provider.claims.unclaimed if provider.claims else 0,
        "aitbc_provider_engine_memory_bytes": provider.engine.resident_bytes,
        "aitbc_provider_machine_free_bytes": available_bytes(),
    }


def counters_of(provider: "Provider") -> dict[str, Mapping[tuple[str, ...], float]]:
    measures = provider.worker.measures
    return {
        "aitbc_provider_engine_restarts_total": {(): provider.engine.restarts},
        "aitbc_provider_jobs_total": dict(measures.jobs.items()),
        "aitbc_provider_units_total": {(model,): count for model, count in measures.units.items()},
        "aitbc_provider_bytes_out_total": {(model,): count for model, count in measures.bytes_out.items()},
        "aitbc_provider_gpu_seconds_total": {(model,): count for model, count in measures.engine_s.items()},
    }


def exposition(provider: "Provider") -> tuple[bytes, str]:
    """Body and media type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(provider))
    return generate_latest(registry), CONTENT_TYPE_LATEST
