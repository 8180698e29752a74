"""A shop posts each order, whole, whenever it changes. Start command:

gunicorn --preload --workers 2 --timeout 30 app:app
"""

from datetime import datetime, timezone
from typing import Any

from flask import Flask, request

from upstash_state import redis_get_all_orders, redis_get_order, redis_save_order, time_budget

TIMEOUT = 30  # seconds, gunicorn's --timeout: a worker that takes longer is killed

app = Flask(__name__)
# With --preload this runs once; each worker then has a copy of the orders, not of the connection.
STATE = redis_get_all_orders()


@app.post("/orders")
def save() -> tuple[dict[str, Any], int]:
    with time_budget(TIMEOUT - 1):
        order = request.get_json()
        order["received_at"] = datetime.now(timezone.utc)
        order_id = str(order["id"])
        STATE[order_id] = order
        saved = redis_save_order(order_id, order)
    return {"saved": saved}, 200 if saved else 503


@app.get("/orders/<order_id>")
def show(order_id: str) -> tuple[dict[str, Any], int]:
    with time_budget(TIMEOUT - 1):
        # Redis first: the order may have changed in the other worker.
        order = redis_get_order(order_id) or STATE.get(order_id)
    return (order, 200) if order else ({}, 404)
