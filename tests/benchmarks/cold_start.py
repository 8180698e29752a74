"""The time from the start of a process to its first saved order, and its parts.

    python -m tests.benchmarks.cold_start [ROUNDS]

Over TLS, with certifi's CA bundle, and 20 ms of round-trip time added by a relay. Fresh processes
take turns. Needs the extra `test`. Nothing leaves 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import certifi
import trustme

from tests.benchmarks import report
from tests.benchmarks.timing import Times, in_turns
from tests.serverless.relay import Relay
from tests.support.paths import ROOT
from upstash_state.local import LocalEndpoint

ROUND_TRIP = 0.020

OURS = """
import upstash_state
assert upstash_state.redis_save_order("5866", {"name": "#26", "status": "new"})
"""
SDK = """
import json
from upstash_redis import Redis
redis = Redis.from_env()
assert redis.set("order:5866", json.dumps({"name": "#26", "status": "new"}), ex=604800)
"""
NOTHING = ""
CONTENDERS = {
    "upstash_state": OURS,
    "upstash-redis": SDK,
    "Python alone": NOTHING,
}
# CLOCK_MONOTONIC is the same for all processes.
CLOCK = """
import time
print(time.monotonic())
"""
STAGES = """
import time
marks = [("Python alone", time.monotonic())]
import json
def mark(name):
    marks.append((name, time.monotonic()))
import upstash_state
mark("import upstash_state")
import ssl
import upstash_state.transport.http
mark("requests and urllib3, at first use")
def marked(method, name):
    def wrapper(*args, **kwargs):
        result = method(*args, **kwargs)
        mark(name)
        return result
    return wrapper
ssl.SSLContext.load_verify_locations = marked(ssl.SSLContext.load_verify_locations, "CA bundle")
ssl.SSLSocket.do_handshake = marked(ssl.SSLSocket.do_handshake, "connection and TLS")
client = upstash_state.UpstashRedis.from_env()
upstash_state.OrderStore(client).save("5866", {"name": "#26", "status": "new"})
mark("SET")
print(json.dumps(marks))
"""


def run(code: str, environment: dict[str, str]) -> tuple[float, str]:
    """Run code in a new process. Return when it was started, and its output."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return begin, done.stdout


def seconds(code: str, environment: dict[str, str]) -> float:
    """Return the seconds from the start of a process to the end of its code."""
    begin, printed = run(code + CLOCK, environment)
    return float(printed) - begin


def stages(rounds: int, environment: dict[str, str]) -> dict[str, Times]:
    """Return how long each part of this package's cold start took."""
    parts: dict[str, list[float]] = {}
    for _ in range(rounds):
        before, printed = run(STAGES, environment)
        for name, end in json.loads(printed):
            parts.setdefault(name, []).append(end - before)
            before = end
    return {name: Times(samples) for name, samples in parts.items()}


def measure(rounds: int) -> tuple[dict[str, Times], dict[str, Times]]:
    """Return the times of all contenders' cold starts, and of the parts of this package's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    with (
        tempfile.NamedTemporaryFile(suffix=".pem") as bundle,
        LocalEndpoint(tls=server) as endpoint,
        Relay(int(endpoint.url.rpartition(":")[2]), delay=ROUND_TRIP / 2) as relay,
    ):
        bundle.write(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
        bundle.flush()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "UPSTASH_REDIS_REST_URL": f"https://127.0.0.1:{relay.port}",
            "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
            "REQUESTS_CA_BUNDLE": bundle.name,
            "SSL_CERT_FILE": bundle.name,
        }
        samples = {name: partial(seconds, code, environment) for name, code in CONTENDERS.items()}
        times = {name: Times(taken) for name, taken in in_turns(samples, rounds).items()}
        parts = stages(rounds, environment)
    return times, parts


if __name__ == "__main__":
    print(report.cold_start(*measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20)))
