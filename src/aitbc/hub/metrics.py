"""What the hub counts, and what an operator reads of it: Prometheus text, and the figures of the last minutes.

Each name is listed in docs/spec/hub.md "Metrics".
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

    from aitbc.hub.hub import Hub
    from aitbc.hub.parts import Job

GAUGES = {
    "aitbc_hub_providers": "Providers that are connected and registered",
    "aitbc_hub_jobs_under_way": "Jobs that hold money",
    "aitbc_hub_queue": "Jobs that wait for a provider",
    "aitbc_hub_open_claims": "Receipts that the chain has not paid yet",
    "aitbc_hub_followers": "Open event streams",
}
BY_MODEL = {
    "aitbc_hub_model_providers": "Providers of a model",
    "aitbc_hub_model_free_slots": "Free places of a model's providers",
    "aitbc_hub_model_queue": "Jobs that wait for a model",
}
COUNTERS = {
    "aitbc_hub_requests_total": (("route", "status"), "HTTP requests answered"),
    "aitbc_hub_jobs_total": (("model", "outcome"), "Jobs ended"),
    "aitbc_hub_units_total": (("model",), "Compute units delivered"),
    "aitbc_hub_bytes_out_total": (("model",), "Bytes delivered"),
    "aitbc_hub_engine_seconds_total": (("model",), "Seconds in engines, as providers say"),
}
HISTOGRAMS = {
    "aitbc_hub_request_seconds": ("route", "From a request's headers to the end of its answer"),
    "aitbc_hub_job_seconds": ("model", "From a job's quote to its end"),
}

BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
MAX_RECENT = 4_096
"""Requests from which rate and percentiles of `aitbc hub status` are made."""
RECENT_S = 60.0
OTHER = "other"
"""The route of requests that no route answers, so that strangers cannot make names."""


class Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        total, found = 0, []
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Measures:
    """Counts in memory, from the start of the process; labels are routes, models and outcomes, which are few."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._recent: deque[tuple[float, float]] = deque(maxlen=MAX_RECENT)
        self.counters: dict[str, defaultdict[tuple[str, ...], float]] = {
            name: defaultdict(float) for name in COUNTERS
        }
        self.histograms: dict[str, dict[str, Histogram]] = {name: {} for name in HISTOGRAMS}

    def answered(self, route: str, status: int, seconds: float) -> None:
        self.counters["aitbc_hub_requests_total"][route, str(status)] += 1
        self._histogram("aitbc_hub_request_seconds", route).add(seconds)
        self._recent.append((self._monotonic(), seconds))

    def job_ended(self, job: "Job") -> None:
        model, outcome = job.quote.model, job.outcome
        self.counters["aitbc_hub_jobs_total"][model, outcome] += 1
        delivered = [entry.delivery.details for entry in job.receipts]
        if delivered:
            self.counters["aitbc_hub_units_total"][(model,)] += sum([details.units for details in delivered])
            self.counters["aitbc_hub_bytes_out_total"][(model,)] += job.bytes_out
            self.counters["aitbc_hub_engine_seconds_total"][(model,)] += (
                sum([details.gpu_ms for details in delivered]) / 1000
            )
            finished_ms = max([details.finished_ms for details in delivered])
            self._histogram("aitbc_hub_job_seconds", model).add(max(0, finished_ms - job.began_ms) / 1000)

    def recent(self) -> tuple[float, float]:
        """Requests a second, and the 95th percentile of their seconds, over the last minute."""
        now = self._monotonic()
        seconds = sorted([spent for at, spent in self._recent if now - at <= RECENT_S])
        if not seconds:
            return 0.0, 0.0
        since = min([at for at, _ in self._recent if now - at <= RECENT_S])
        return len(seconds) / max(1.0, now - since), seconds[int(0.95 * (len(seconds) - 1))]

    def _histogram(self, name: str, label: str) -> Histogram:
        return self.histograms[name].setdefault(label, Histogram())


class _Collector:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        gauges = gauges_of(self._hub)
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=gauges[name])
        models = models_of(self._hub)
        for name, text in BY_MODEL.items():
            family = GaugeMetricFamily(name, text, labels=["model"])
            for model, figures in models.items():
                family.add_metric([model], figures[name])
            yield family
        measures = self._hub.measures
        for name, (labels, text) in COUNTERS.items():
            counted = CounterMetricFamily(name, text, labels=list(labels))
            for values, count in measures.counters[name].items():
                counted.add_metric(list(values), count)
            yield counted
        for name, (label, text) in HISTOGRAMS.items():
            timed = HistogramMetricFamily(name, text, labels=[label])
            for value, histogram in measures.histograms[name].items():
                timed.add_metric([value], histogram.buckets(), histogram.sum_s)
            yield timed


def gauges_of(hub: "Hub") -> dict[str, int]:
    return {
        "aitbc_hub_providers": len([session for session in hub.directory.sessions() if session.serves]),
        "aitbc_hub_jobs_under_way": hub.jobs.under_way,
        "aitbc_hub_queue": len(hub.matcher),
        "aitbc_hub_open_claims": hub.claims.open,
        "aitbc_hub_followers": hub.followers,
    }


def models_of(hub: "Hub") -> dict[str, dict[str, int]]:
    """Of the models that somebody serves or somebody waits for."""
    waiting = hub.matcher.waiting()
    served = {model for session in hub.directory.sessions() for model in session.serves}
    return {
        model: {
            "aitbc_hub_model_providers": len(hub.directory.serving(model)),
            "aitbc_hub_model_free_slots": sum(
                [session.free_slots for session in hub.directory.serving(model)]
            ),
            "aitbc_hub_model_queue": waiting[model],
        }
        for model in sorted(served | set(waiting))
    }


def exposition(hub: "Hub") -> tuple[bytes, str]:
    """Text format and its media type; prometheus_client is imported at the first scrape."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(hub))
    return generate_latest(registry), CONTENT_TYPE_LATEST
