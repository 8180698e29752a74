"""`init(traces_sample_rate=1)`: one http.client span for each request, the token in no event"""

import sentry_sdk
from probes import TOKEN, saves, time_limit_holds
from sentry_sdk.transport import Transport

from upstash_state import get_redis_client, redis_save_order

events: list[object] = []


class Catch(Transport):
    def capture_envelope(self, envelope: sentry_sdk.envelope.Envelope) -> None:
        events.extend(item.payload.json for item in envelope.items)


sentry_sdk.init(
    "https://key@sentry.example.test/1",
    transport=Catch,
    traces_sample_rate=1,
    include_local_variables=True,
)
assert get_redis_client()
with sentry_sdk.start_transaction(name="orders") as transaction:
    saves()
sentry_sdk.flush()
spans = [
    span
    for event in events
    if isinstance(event, dict)
    for span in event.get("spans", [])
    if span["op"] == "http.client"
]
assert len(spans) == 4, f"{len(spans)} spans of 4 requests"
redis_save_order("5866", {"a set": {1}})
time_limit_holds()
try:
    get_redis_client().rpush("order:5866")  # type: ignore[union-attr]
except Exception as error:
    sentry_sdk.capture_exception(error)
sentry_sdk.flush()
assert len(events) > 1
pieces = {TOKEN[i : i + 8] for i in range(len(TOKEN) - 7)}
assert not [piece for piece in pieces if piece in repr(events)]
saves()
