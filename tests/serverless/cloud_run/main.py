"""A shop posts each order, whole, whenever it changes. To run it anywhere:

functions-framework --target orders
"""

import os
from datetime import datetime, timezone
from typing import Any

import functions_framework
from flask import Request

from upstash_state import redis_get_all_orders, redis_save_order, time_budget

# The function's own timeout, in seconds; functions-framework obeys the same variable.
TIMEOUT = float(os.environ.get("CLOUD_RUN_TIMEOUT_SECONDS", "60"))

# Runs once in each instance, at its cold start.
STATE = redis_get_all_orders()


@functions_framework.http
def orders(request: Request) -> tuple[dict[str, Any], int]:
    # Saved before the answer: an instance has no processor time between requests.
    with time_budget(TIMEOUT - 1):
        order = request.get_json()
        order["received_at"] = datetime.now(timezone.utc)
        order_id = str(order["id"])
        STATE[order_id] = order
        saved = redis_save_order(order_id, order)
    # Memory may be gone before the next request: what is not in Redis must be sent again.
    return {"orders": len(STATE)}, 200 if saved else 503
