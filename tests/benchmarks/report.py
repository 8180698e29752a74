"""The tables of the README, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from . import held_up, restores
from .goals import Goal
from .held_up import Held
from .stub import Usage
from .timing import Times, shown

_CONTENDERS = [kind.name for kind in held_up.CONTENDERS]
_RESTORING = [kind.name for kind in restores.CONTENDERS]


def held(results: Iterable[held_up.Result]) -> str:
    """Return how long a caller is held up: the median and the 99th percentile."""
    rows = [
        [f"{result.work.name}, {network}", *(_held(by_name.get(name)) for name in _CONTENDERS)]
        for result in results
        for network, by_name in result.held.items()
    ]
    return table(["held up per change: median, p99", *_CONTENDERS], rows)


def costs(results: Iterable[held_up.Result]) -> str:
    """Return what the backup of a change costs."""
    rows = [
        [result.work.name, *(_cost(result.costs[name]) for name in _CONTENDERS)]
        for result in results
    ]
    return table(["requests, commands", *_CONTENDERS], rows)


def processor_time(times: Mapping[str, Times], threads: Mapping[str, Times]) -> str:
    """Return the processor time of a save, and the time of saves from many threads."""
    alone = table(["processor time", *times], [["a save, 0 ms", *map(_time, times.values())]])
    title = f"{held_up.THREADS} threads at 20 ms"
    many = table([title, *threads], [["each save", *map(_time, threads.values())]])
    return f"{alone}\n\n{many}"


def restored(results: Iterable[restores.Result]) -> str:
    """Return how long a restore takes."""
    rows = [
        [f"{result.size:,}, {network}", *(_time(times[name]) for name in _RESTORING)]
        for result in results
        for network, times in result.times.items()
    ]
    return table(["restore", *_RESTORING], rows)


def cold_start(started: Mapping[str, Times], parts: Mapping[str, Times]) -> str:
    """Return the medians of each contender's cold start, and of the parts of ours."""
    titles = {"cold start": started, "parts of upstash_state's": parts}
    return "\n\n".join(
        table([title, *times], [["median", *map(_time, times.values())]])
        for title, times in titles.items()
    )


def goals(reached: Iterable[Goal]) -> str:
    """Return each figure beside its goal."""
    rows = []
    for goal in reached:
        spread = f"{goal.spread[0]:.3g} to {goal.spread[1]:.3g}" if goal.spread else ""
        verdict = "" if goal.met else "missed"
        rows.append([goal.what, f"{goal.figure:.3g}", spread, f"≤ {goal.limit:g}", verdict])
    return table(["", "figure", "middle half", "goal", ""], rows)


def _held(found: Held | None) -> str:
    if found is None:
        return ""
    if found.endless:
        return "no end"
    mark = "~" if found.extrapolated else ""
    return f"{mark}{shown(found.median)}, {shown(found.p99)}"


def _cost(cost: Usage) -> str:
    return f"{f'{cost.requests:,}' if cost.requests else '-'}, {cost.commands:,}"


def _time(times: Times) -> str:
    return f"{'~' if times.extrapolated else ''}{shown(times.median)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown. All columns but the first are aligned right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
