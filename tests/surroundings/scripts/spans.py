"""Spans that OpenTelemetry exports, in memory."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from probes import TOKEN, saves

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))


def one_for_each_request() -> None:
    """Four requests make four client spans, none of which shows the token."""
    from upstash_state import get_redis_client

    assert get_redis_client()
    exporter.clear()
    saves()
    spans = exporter.get_finished_spans()
    assert len(spans) == 4, f"{len(spans)} spans of 4 requests"
    assert all(TOKEN not in span.to_json() for span in spans)
