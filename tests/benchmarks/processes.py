"""What has to be measured from outside, in processes of their own: imports and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

from .stub import Stub
from .timing import Times, in_turns, timed

#: What a process imports, by the name in the table. Nothing: Python itself.
IMPORTS = {
    "upstash_state": "import upstash_state",
    "upstash_redis": "import upstash_redis",
    "json, logging, datetime": "import json, logging, datetime",
    "redis": "import redis",
    "nothing": "",
}

_RESTORE = """
import gc, json, sys
from pathlib import Path
from upstash_state import redis_get_all_orders, redis_get_order

def kilobytes(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])

assert redis_get_order("0")
gc.collect()
before = kilobytes("VmRSS")
orders = redis_get_all_orders()
peak = kilobytes("VmHWM")
gc.collect()
print(json.dumps([len(orders), peak - before, kilobytes("VmRSS") - before]))
"""


def imports(rounds: int) -> dict[str, Times]:
    """Seconds from the start of a process to its end, with nothing but an import in between."""
    samples = {
        name: partial(timed, partial(subprocess.run, [sys.executable, "-c", code], check=True))
        for name, code in IMPORTS.items()
    }
    return {name: Times(taken) for name, taken in in_turns(samples, rounds).items()}


def restore_memory(stub: Stub, size: int) -> tuple[int, int]:
    """Bytes that a restore took at its peak, and that its result takes (Linux's resident set)."""
    done = subprocess.run(
        [sys.executable, "-c", _RESTORE],
        env={"UPSTASH_REDIS_REST_URL": stub.url, "UPSTASH_REDIS_REST_TOKEN": str(size)},
        stdout=subprocess.PIPE,
        check=True,
    )
    restored, peak, result = json.loads(done.stdout)
    assert restored == size
    return peak * 1024, result * 1024
