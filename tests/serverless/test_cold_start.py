"""What a cold start costs. How long it takes: `python -m tests.benchmarks.cold_start`."""

from __future__ import annotations

import redis

from tests.support.processes import Process
from upstash_state.local import LocalEndpoint

from .shop import EXAMPLES, credentials

SAVE = """
from upstash_state import redis_save_order
print("saved", redis_save_order("5866", {"name": "#26"}))
"""


def test_the_first_save_of_a_process_is_one_request(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    with Process(["-c", SAVE], EXAMPLES, credentials(real_endpoint)) as process:
        process.wait_for("saved True")
    assert real_endpoint.usage().requests == 1
    assert real_endpoint.usage().commands == 1
    assert tcp.get("order:5866") == b'{"name": "#26"}'
