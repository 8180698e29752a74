"""Run the benchmarks and print what they say."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..servers import redis_server
from . import __doc__ as usage
from . import goals, processes, texts, works
from .goals import Goal
from .stub import running
from .timing import Times, shown

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

    report: dict[str, Any] = {"about": _about(), "quick": options.quick, "works": {}}
    print("  ".join(f"{name} {value}" for name, value in report["about"].items()), flush=True)
    reached: list[Goal] = []
    with redis_server() as redis_url:
        redis_port = int(redis_url.rpartition(":")[2].partition("/")[0])
        with running(redis_port) as stub:
            servers = works.Servers(stub, redis_port)
            for result in works.run(servers, quick=options.quick, only=options.only):
                reached += goals.of_work(result)
                report["works"][result.work] = _print_work(result)
            if options.only in "memory" and not options.quick:
                size = works.LARGEST
                peak, left = processes.restore_memory(stub, size)
                reached += goals.of_memory(peak, left, size)
                report["memory"] = {"orders": size, "peak": peak, "result": left}
    rounds = 5 if options.quick else 40
    if options.only in "import":
        times = processes.imports(rounds)
        reached += goals.of_imports(times)
        report["import"] = _print_times("import, whole process", times)
    if options.only in "texts":
        serialize, deserialize = texts.serialize(rounds), texts.deserialize(rounds)
        reached += goals.of_texts(serialize, deserialize)
        report["serialize"] = _print_times("serialize, an order", serialize)
        report["deserialize"] = _print_times("deserialize, an order", deserialize)
    report["goals"] = [goal._asdict() | {"met": goal.met} for goal in reached]
    _print_goals(reached)
    report["about"]["load at the end"] = _load()
    print(f"\nload at the end: {_load()}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


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


def _print_work(result: works.Result) -> dict[str, Any]:
    head = ("0 ms", "ratio", "20 ms", "ratio", "requests", "commands", "sent", "received")
    print(f"\n{result.work:37}" + "".join(f"{title:>11}" for title in head))
    figures: dict[str, Any] = {}
    (ours_fast, *_), (ours_slow, *_) = result.fast.values(), result.slow.values()
    for name, fast in result.fast.items():
        slow = result.slow[name]
        columns = [_time(fast), f"{fast.ratio(ours_fast)[0]:.2f}"]
        columns += [_time(slow), f"{slow.ratio(ours_slow)[0]:.2f}"]
        figures[name] = {"0 ms": _figures(fast), "20 ms": _figures(slow)}
        if name in result.costs:
            cost = result.costs[name]
            columns += [str(cost.requests or "-"), f"{cost.commands:,}"]
            columns += [f"{cost.bytes_received:,}", f"{cost.bytes_sent:,}"]
            figures[name] |= cost._asdict()
        print(f"  {name:35}" + "".join(f"{column:>11}" for column in columns), flush=True)
    return figures


def _print_times(title: str, times: Mapping[str, Times]) -> dict[str, Any]:
    ours = next(iter(times.values()))
    print(f"\n{title}")
    for name, each in times.items():
        print(f"  {name:35}{_time(each):>11}{each.ratio(ours)[0]:>11.2f}", flush=True)
    return {name: _figures(each) for name, each in times.items()}


def _time(times: Times) -> str:
    return f"{'~' if times.extrapolated else ''}{shown(times.median)}"


def _figures(times: Times) -> dict[str, Any]:
    return {
        "median": times.median,
        "samples": times.samples,
        "extrapolated": times.extrapolated,
    }


def _print_goals(reached: list[Goal]) -> None:
    print(f"\n{'goals':60}{'figure':>9}{'goal':>10}   {'quartiles':16}")
    for goal in reached:
        sign = "≥" if goal.at_least else "≤"
        spread = f"{goal.spread[0]:.3g} to {goal.spread[1]:.3g}" if goal.spread else "exact"
        verdict = "met" if goal.met else "MISSED"
        limit = f"{sign} {goal.limit:g}"
        print(f"  {goal.what:58}{goal.figure:>9.3g}{limit:>10}   {spread:16}  {verdict}")


main()
