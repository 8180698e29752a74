"""What the figures should be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from . import held_up, restores
from .contenders import Floor, Module, ModuleInBackground, Sdk, SerializeAlone
from .stub import NETWORKS
from .timing import Times


class Goal(NamedTuple):
    """One figure beside what it should be.

    Attributes:
        what: What is compared.
        figure: What it is.
        limit: What it should be.
        spread: The quartiles of the figure, where it was timed.
    """

    what: str
    figure: float
    limit: float
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        return self.figure <= self.limit


def of_changes(result: held_up.Result) -> Iterator[Goal]:
    """The goals for the backup of a change of one order."""
    if result.work is not held_up.ONE:
        return
    fast = {name: Times(held.samples) for name, held in result.held["0 ms"].items()}
    yield ratio("save / upstash-redis `set(ex=)`", fast[Module.name], fast[Sdk.name], 0.90)
    yield ratio("save / urllib3 alone", fast[Module.name], fast[Floor.name], 1.40)
    background = {name: result.held[name][ModuleInBackground.name] for name in NETWORKS}
    worst = max(NETWORKS, key=lambda name: background[name].median)
    yield Goal(f"background, median, {worst}: µs", background[worst].median * 1e6, 100)
    alone = Times(result.held["0 ms"][SerializeAlone.name].samples)
    yield ratio("background / `serialize_order`", fast[ModuleInBackground.name], alone, 2)
    worst = max(NETWORKS, key=lambda name: background[name].p99)
    yield Goal(f"background, p99, {worst}: ms", background[worst].p99 * 1e3, 1)


def of_restore(result: restores.Result) -> Iterator[Goal]:
    """The goals for a restore of so many orders."""
    for size, network, limit in ((10_000, "0 ms", 0.90), (restores.LARGEST, "20 ms", 0.65)):
        if result.size == size:
            times = result.times[network]
            what = f"restore {size:,} at {network} / upstash-redis by hand"
            yield ratio(what, times[Module.name], times[Sdk.name], limit)


def of_cold_start(ours: Times, theirs: Times) -> Goal:
    """The goal for a new process's first save."""
    return ratio("cold start / upstash-redis", ours, theirs, 0.80)


def of_imports(times: Mapping[str, Times]) -> Iterator[Goal]:
    """The goals for the import."""
    yield ratio("import / import upstash_redis", times[Module.name], times["upstash_redis"], 0.35)
    middle, low, high = times[Module.name].over(times["json, logging, datetime"])
    spread = (low * 1000, high * 1000)
    yield Goal("import beyond json, logging, datetime: ms", middle * 1000, 10, spread)


def of_memory(peak: int, result: int, size: int) -> Goal:
    """The goal for the memory that a restore takes."""
    return Goal(f"restore {size:,}: peak of memory / result", peak / result, 1.5)


def ratio(what: str, ours: Times, theirs: Times, limit: float) -> Goal:
    """What one takes as a multiple of another, of the same turns."""
    middle, low, high = ours.ratio(theirs)
    return Goal(what, middle, limit, (low, high))
