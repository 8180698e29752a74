"""What 1,000 calls cost an app while Redis is down, by way of being down.

    python -m tests.benchmarks.outage

With the default time budget of 5 s, against a server that misbehaves. Needs the extra `test`.
Nothing leaves 127.0.0.1. Takes about a minute.
"""

from __future__ import annotations

import logging
import os
from time import perf_counter

from tests.support.faults import FAULTS, FaultServer
from upstash_state import redis_save_order, reset_client

CALLS = 1000
WAYS = {
    "refused": "connection refused",
    "never_answers": "accepts, never answers",
    "headers_trickled": "sends a byte of its headers every half second",
    "body_trickled": "sends a byte of its body every half second",
}


def main() -> None:
    """Print a table."""
    logging.getLogger("upstash_state").setLevel(logging.CRITICAL)
    faults = {fault.name: fault for fault in FAULTS}
    print(f"{'the endpoint':46} {'longest call':>12} {'first 3':>8} {'the other 997':>13}")
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
        print(f"{text:46} {max(times):10.2f} s {first:6.2f} s {others * 1000:10.1f} ms", flush=True)


if __name__ == "__main__":
    main()
