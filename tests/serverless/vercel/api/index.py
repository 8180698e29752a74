"""A shop posts each order, whole, whenever it changes."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

from upstash_state import redis_get_all_orders, redis_save_order, time_budget

MAX_DURATION = 10  # seconds, as in vercel.json

# Runs once in each instance, at its cold start.
STATE = redis_get_all_orders()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with time_budget(MAX_DURATION - 1):
        order = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        order["received_at"] = datetime.now(timezone.utc)
        order_id = str(order["id"])
        STATE[order_id] = order
        saved = redis_save_order(order_id, order)
    # Memory may be gone before the next request: what is not in Redis must be sent again.
    start_response(
        "200 OK" if saved else "503 Service Unavailable", [("Content-Type", "application/json")]
    )
    return [json.dumps({"orders": len(STATE)}).encode()]
