"""A shop posts each order, whole, whenever it changes."""

import json
import os
from datetime import datetime, timezone
from typing import Any

import requests  # noqa: F401  (so that it is part of the deployment's snapshot)
from workers import Response, WorkerEntrypoint

from upstash_state import time_budget
from upstash_state.aio import redis_save_order


class Default(WorkerEntrypoint):
    async def fetch(self, request: Any) -> Response:
        # The first call of the package reads them.
        for name in ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"):
            os.environ[name] = getattr(self.env, name)
        order = json.loads(await request.text())
        order["received_at"] = datetime.now(timezone.utc)
        with time_budget(10):
            saved = await redis_save_order(str(order["id"]), order)
        # Memory may be gone before the next request: what is not in Redis must be sent again.
        return Response.json({"saved": saved}, status=200 if saved else 503)
