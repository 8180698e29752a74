"""Run the benchmarks and print what they say."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.servers import redis_server

from . import __doc__ as usage
from . import goals, processes, report, texts, works
from .goals import Goal
from .stub import running
from .timing import Times

_PACKAGES = ("requests", "urllib3", "upstash-redis", "httpx", "redis")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no 100,000 orders")
    parser.add_argument("--only", default="", metavar="PART", help="works whose name holds PART")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()

    figures: dict[str, Any] = {"about": _about(), "quick": options.quick, "works": {}}
    reached: list[Goal] = []
    tables: list[str] = []
    results: list[works.Result] = []
    with redis_server() as redis_url:
        redis_port = int(redis_url.rpartition(":")[2].partition("/")[0])
        with running(redis_port) as stub:
            servers = works.Servers(stub, redis_port)
            for result in works.run(servers, quick=options.quick, only=options.only):
                print(f"done: {result.work}", file=sys.stderr)
                results.append(result)
                reached += goals.of_work(result)
                figures["works"][result.work] = _figures_of_work(result)
            if options.only in "memory" and not options.quick:
                peak, left = processes.restore_memory(stub, works.LARGEST)
                reached += goals.of_memory(peak, left, works.LARGEST)
                figures["memory"] = {"orders": works.LARGEST, "peak": peak, "result": left}
    if results:
        tables += [report.times_of_works(results), report.costs_of_works(results)]
    rounds = 5 if options.quick else 40
    if options.only in "import":
        times = processes.imports(rounds)
        reached += goals.of_imports(times)
        figures["import"] = _figures(times)
        tables.append(report.times_of("import, whole process", times))
    if options.only in "texts":
        serialize, deserialize = texts.serialize(rounds), texts.deserialize(rounds)
        reached += goals.of_texts(serialize, deserialize)
        figures |= {"serialize": _figures(serialize), "deserialize": _figures(deserialize)}
        tables.append(report.times_of("order to text", serialize))
        tables.append(report.times_of("order from text", deserialize))
    figures["goals"] = [goal._asdict() | {"met": goal.met} for goal in reached]
    figures["about"]["load at the end"] = _load()
    about = ", ".join(f"{name} {value}" for name, value in figures["about"].items())
    print(about, *tables, report.goals(reached), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _about() -> dict[str, str]:
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "Python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "processors": str(os.cpu_count()),
        "load": _load(),
    }


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}"


def _figures_of_work(result: works.Result) -> dict[str, Any]:
    return {
        "0 ms": _figures(result.fast),
        "20 ms": _figures(result.slow),
        "costs": {name: cost._asdict() for name, cost in result.costs.items()},
    }


def _figures(times: dict[str, Times]) -> dict[str, Any]:
    return {name: {"median": each.median, **each._asdict()} for name, each in times.items()}


main()
