"""Figures as tables, which are Markdown and can be read in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .contenders import Floor, Module, ModuleInLoop, ModuleSkipping, RedisPy, Sdk, SdkAsOriginal
from .goals import Goal
from .stub import DELAY, Usage
from .timing import Times, shown
from .works import Result

_CONTENDERS = [
    kind.name for kind in (Module, ModuleInLoop, ModuleSkipping, Sdk, SdkAsOriginal, RedisPy, Floor)
]


def times_of_works(results: Iterable[Result]) -> str:
    """The median of each work and contender, without delay and with."""
    rows = []
    for result in results:
        slowly = f"{result.work}, {DELAY * 1000:.0f} ms away"
        for name, times in ((result.work, result.fast), (slowly, result.slow)):
            rows.append([name, *(_time(times.get(contender)) for contender in _CONTENDERS)])
    return _table(["median", *_CONTENDERS], rows)


def costs_of_works(results: Iterable[Result]) -> str:
    """What each work costs each contender."""
    rows = [
        [result.work, *(_cost(result.costs.get(name)) for name in _CONTENDERS)]
        for result in results
    ]
    return _table(["requests, commands, KB", *_CONTENDERS], rows)


def times_of(title: str, times: Mapping[str, Times]) -> str:
    """The median of each."""
    return _table([title, *times], [["median", *map(_time, times.values())]])


def goals(reached: Iterable[Goal]) -> str:
    """Each figure beside its goal."""
    rows = []
    for goal in reached:
        limit = f"{'≥' if goal.at_least else '≤'} {goal.limit:g}"
        spread = f"{goal.spread[0]:.3g} to {goal.spread[1]:.3g}" if goal.spread else "exact"
        verdict = "" if goal.met else "missed"
        rows.append([goal.what, f"{goal.figure:.3g}", spread, limit, verdict])
    return _table(["", "figure", "middle half", "goal", ""], rows)


def _cost(cost: Usage | None) -> str:
    if cost is None:
        return ""
    kilobytes = (cost.bytes_received + cost.bytes_sent) / 1000
    size = f"{kilobytes:,.0f}" if kilobytes >= 10 else f"{kilobytes:.1f}"
    return f"{f'{cost.requests:,}' if cost.requests else '-'}, {cost.commands:,}, {size}"


def _time(times: Times | None) -> str:
    if times is None:
        return ""
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
