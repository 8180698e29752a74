"""Run the benchmarks, and print their tables."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from tests.support.servers import redis_server
from upstash_state import reset_client

from . import __doc__ as usage
from . import chart, cold_start, goals, held_up, processes, report, restores
from .goals import Goal
from .stub import running

_BEGAN = time.perf_counter()
_PACKAGES = ("requests", "urllib3", "upstash-redis", "httpx", "redis")


def main() -> None:
    """Run the benchmarks that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer turns, without the largest restore"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="file for the chart, as SVG")
    options = parser.parse_args()
    quick: bool = options.quick
    logging.getLogger("upstash_state").setLevel(logging.CRITICAL)

    print(_about())
    reached: list[Goal] = []
    try:
        _measure(quick, options.chart, reached)
    finally:
        _show(report.goals(reached))
        print(f"load at the end {_load()}, after {time.perf_counter() - _BEGAN:.0f} s")
        reset_client(flush=False)


def _measure(quick: bool, picture: Path | None, reached: list[Goal]) -> None:
    """Print each table as soon as it is measured, and append the goals to `reached`."""
    rounds = 4 if quick else 20
    with ExitStack() as stack:
        redis_url = stack.enter_context(redis_server())
        redis_port = int(redis_url.rpartition(":")[2].partition("/")[0])
        stub = stack.enter_context(running(redis_port))
        changes = []
        for result in held_up.run(stub, quick=quick):
            _done(f"backing up {result.work.name}")
            changes.append(result)
        _show(report.held(changes), report.costs(changes))
        if picture:
            chart.draw(changes[0].held, picture)
        saves = held_up.processor_time(stub, quick=quick)
        threads = held_up.from_threads(stub, quick=quick)
        reached += [*goals.of_processor_time(saves), goals.of_threads(threads)]
        _show(report.processor_time(saves, threads))
        restored = []
        for restore in restores.run(stub, quick=quick):
            _done(f"restoring {restore.size:,}")
            restored.append(restore)
            reached += goals.of_restore(restore)
        _show(report.restored(restored))
        if not quick:
            peak, left = processes.restore_memory(stub, restores.LARGEST)
            reached.append(goals.of_memory(peak, left, restores.LARGEST))
    reached.append(goals.of_imports(processes.imports(rounds)))
    started, parts = cold_start.measure(rounds)
    reached.append(goals.of_cold_start(started["upstash_state"], started["upstash-redis"]))
    _show(report.cold_start(started, parts))


def _show(*tables: str) -> None:
    print("", *tables, sep="\n\n", flush=True)


def _done(what: str) -> None:
    print(f"{time.perf_counter() - _BEGAN:4.0f} s: {what}", file=sys.stderr)


def _about() -> str:
    date = datetime.now(timezone.utc).isoformat(" ", "minutes")
    packages = [f"{package} {version(package)}" for package in _PACKAGES]
    python = f"Python {platform.python_version()}"
    return ", ".join([date, python, *packages, f"{os.cpu_count()} processors", f"load {_load()}"])


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


main()
