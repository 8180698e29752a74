"""Measurements in processes of their own: imports and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from tempfile import TemporaryDirectory

from .stub import Stub
from .timing import Times, in_turns, timed

#: The code of each process, by the name in the goals.
IMPORTS = {
    "upstash_state": "import upstash_state",
    "upstash_redis": "import upstash_redis",
}

_RESTORE = """
import gc, json, tracemalloc
from upstash_state import redis_get_all_orders, redis_get_order

assert redis_get_order("0")
gc.collect()
tracemalloc.start()
orders = redis_get_all_orders()
gc.collect()
result, peak = tracemalloc.get_traced_memory()
print(json.dumps([len(orders), peak, result]))
"""


def imports(rounds: int) -> dict[str, Times]:
    """Return the seconds of a process that only imports a package."""
    with TemporaryDirectory() as cache:
        # Installed packages are compiled. The first round, which does not count, compiles these.
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        samples = {
            name: partial(timed, partial(_run, code, environ)) for name, code in IMPORTS.items()
        }
        return {name: Times(taken) for name, taken in in_turns(samples, rounds).items()}


def _run(code: str, environ: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def restore_memory(stub: Stub, size: int) -> tuple[int, int]:
    """Return the bytes that a restore holds at its peak, and those of its result."""
    credentials = {
        "UPSTASH_REDIS_REST_URL": stub.url("0 ms"),
        "UPSTASH_REDIS_REST_TOKEN": str(size),
    }
    restored, peak, result = json.loads(_run(_RESTORE, {**os.environ, **credentials}))
    assert restored == size
    return peak, result
