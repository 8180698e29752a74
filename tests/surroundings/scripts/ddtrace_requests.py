"""`patch(requests=True)`: one span for each request; works without an agent"""

import os

os.environ["DD_TRACE_AGENT_URL"] = "http://127.0.0.1:9"
os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
os.environ["DD_REMOTE_CONFIGURATION_ENABLED"] = "false"

import ddtrace
from ddtrace.trace import TraceFilter, tracer
from probes import saves

ddtrace.patch(requests=True)

spans: list[object] = []


class Catch(TraceFilter):
    def process_trace(self, trace: list[object]) -> None:
        spans.extend(trace)


tracer.configure(trace_processors=[Catch()])

from upstash_state import get_redis_client

assert get_redis_client()
spans.clear()
saves()
assert len(spans) == 4, f"{len(spans)} spans of 4 requests"
