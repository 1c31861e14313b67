"""Spans of requests, sent over OTLP: the extra `otel`. docs/howto/observe.md"""

from typing import Any

from aitbc.ports import StorageError


def tracer_provider(endpoint: str, *, program: str) -> Any:
    """Sends spans in batches, from a thread of its own. Raises StorageError when the extra is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise StorageError(
            "traces are asked for (OTEL_EXPORTER_OTLP_ENDPOINT), and the extra is not installed:"
            " pip install 'aitbc[otel]', or leave the setting out"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": program}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
