"""What a cold start costs. How long it takes is measured by `tests/benchmarks/cold_start.py`."""

from __future__ import annotations

import redis

from upstash_state.local import LocalEndpoint

from .process import EXAMPLES, Process
from .shop import credentials

SAVE = """
from upstash_state import redis_save_order
print("saved", redis_save_order("5866", {"name": "#26"}))
"""


def test_the_first_save_of_a_process_costs_one_request_more_than_any_other(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with Process(["-c", SAVE], EXAMPLES, credentials(real_endpoint)) as process:
        process.wait_for("saved True")
    assert real_endpoint.usage().requests == 2
    assert real_endpoint.usage().commands == 2
    assert tcp.get("order:5866") == b'{"name": "#26"}'
