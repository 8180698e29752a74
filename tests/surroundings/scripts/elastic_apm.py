"""instrumented: one span for each request"""

import elasticapm
from probes import saves

from upstash_state import get_redis_client

client = elasticapm.Client(
    service_name="shop",
    transport_class="elasticapm.transport.base.Transport",
    metrics_interval="0ms",
    central_config=False,
    cloud_provider=False,
    disable_send=True,
)
spans: list[object] = []
client.tracer.queue_func = lambda kind, data, **_: spans.append(data) if kind == "span" else None
elasticapm.instrument()
assert get_redis_client()
client.begin_transaction("request")
saves()
client.end_transaction("orders", "success")
assert len(spans) == 4, f"{len(spans)} spans of 4 requests"
