"""Figures as tables, which are Markdown and can be read in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from . import held_up, restores
from .goals import Goal
from .held_up import Held
from .stub import Usage
from .timing import Times, shown

_CONTENDERS = [kind.name for kind in held_up.CONTENDERS]
_RESTORING = [kind.name for kind in restores.CONTENDERS]


def held(results: Iterable[held_up.Result]) -> str:
    """For how long a caller is held up: the median and the 99th percentile."""
    rows = [
        [f"{result.work.name}, {network}", *(_held(by_name.get(name)) for name in _CONTENDERS)]
        for result in results
        for network, by_name in result.held.items()
    ]
    return _table(["held up per change: median, p99", *_CONTENDERS], rows)


def costs(results: Iterable[held_up.Result]) -> str:
    """What the backup of a change costs."""
    rows = [
        [result.work.name, *(_cost(result.costs[name]) for name in _CONTENDERS)]
        for result in results
    ]
    return _table(["requests, commands", *_CONTENDERS], rows)


def processor_time(samples: Mapping[str, list[float]]) -> str:
    """Processor seconds of a save."""
    cells = [shown(median(samples[name])) for name in _CONTENDERS]
    return _table(["processor time", *_CONTENDERS], [["a save, 0 ms", *cells]])


def restored(results: Iterable[restores.Result]) -> str:
    """How long a restore takes."""
    rows = [
        [f"{result.size:,}, {network}", *(_time(times[name]) for name in _RESTORING)]
        for result in results
        for network, times in result.times.items()
    ]
    return _table(["restore", *_RESTORING], rows)


def times_of(title: str, times: Mapping[str, Times]) -> str:
    """The median of each."""
    return _table([title, *times], [["median", *map(_time, times.values())]])


def goals(reached: Iterable[Goal]) -> str:
    """Each figure beside its goal."""
    rows = []
    for goal in reached:
        spread = f"{goal.spread[0]:.3g} to {goal.spread[1]:.3g}" if goal.spread else ""
        verdict = "" if goal.met else "missed"
        rows.append([goal.what, f"{goal.figure:.3g}", spread, f"≤ {goal.limit:g}", verdict])
    return _table(["", "figure", "middle half", "goal", ""], rows)


def _held(found: Held | None) -> str:
    if found is None:
        return ""
    if found.endless:
        return "no end"
    mark = "~" if found.reckoned else ""
    return f"{mark}{shown(found.median)}, {shown(found.p99)}"


def _cost(cost: Usage) -> str:
    return f"{f'{cost.requests:,}' if cost.requests else '-'}, {cost.commands:,}"


def _time(times: Times) -> str:
    return f"{'~' if times.extrapolated else ''}{shown(times.median)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in (head, rule, *rows):
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
