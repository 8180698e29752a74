"""How long 1,000 calls take while Redis is down, by the kind of outage.

    python -m tests.benchmarks.outage

It uses the default timeout of 5 s, and a server with faults. It needs the extra `test`, and takes
about a minute. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import logging
import os
from time import perf_counter

from tests.benchmarks.report import table
from tests.benchmarks.timing import shown
from tests.support.faults import FAULTS, FaultServer
from upstash_state import redis_save_order, reset_client

CALLS = 1000
WAYS = {
    "refused": "refuses connections",
    "never_answers": "accepts and never answers",
    "headers_trickled": "sends a byte of its headers every half second",
    "body_trickled": "sends a byte of its body every half second",
}


def main() -> None:
    """Print the table."""
    logging.getLogger("upstash_state").setLevel(logging.CRITICAL)
    faults = {fault.name: fault for fault in FAULTS}
    rows = []
    for name, text in WAYS.items():
        with FaultServer() as server:
            os.environ["UPSTASH_REDIS_REST_URL"] = server.url
            os.environ["UPSTASH_REDIS_REST_TOKEN"] = server.token
            reset_client()
            assert redis_save_order("5866", {})
            server.plan(faults[name], None)
            times = []
            for _ in range(CALLS):
                begin = perf_counter()
                assert not redis_save_order("5866", {})
                times.append(perf_counter() - begin)
            reset_client()
        first, others = sum(times[:3]), sum(times[3:])
        rows.append([text, shown(max(times)), shown(first), shown(others)])
    print(table(["the endpoint", "longest call", "first 3 calls", "the other 997"], rows))


if __name__ == "__main__":
    main()
