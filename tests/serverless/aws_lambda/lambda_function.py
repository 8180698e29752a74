"""A shop posts each order, whole, to the function's URL whenever it changes."""

import json
from datetime import datetime, timezone
from typing import Any

from upstash_state import redis_get_all_orders, redis_save_order, time_budget

# Runs once in each instance, at its cold start, for which Lambda allows 10 s.
with time_budget(8):
    STATE = redis_get_all_orders()


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    order = json.loads(event["body"])
    order["received_at"] = datetime.now(timezone.utc)
    order_id = str(order["id"])
    STATE[order_id] = order
    # Half a second is left for the answer.
    with time_budget(context.get_remaining_time_in_millis() / 1000 - 0.5):
        saved = redis_save_order(order_id, order)
    # Memory may be gone before the next event: an order that is not in Redis must be sent again.
    return {"statusCode": 200 if saved else 503, "body": json.dumps({"orders": len(STATE)})}
