"""The goals of the figures, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from . import restores
from .contenders import ClientSet, Module, ModuleInBackground, Sdk, SerializeAlone, Session
from .timing import Times


class Goal(NamedTuple):
    """A figure beside its goal.

    Attributes:
        what: What is compared.
        figure: The figure.
        limit: The largest figure that meets the goal.
        spread: The quartiles of the figure, if it was timed.
    """

    what: str
    figure: float
    limit: float
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        return self.figure <= self.limit


def of_processor_time(times: Mapping[str, Times]) -> Iterator[Goal]:
    """Yield the goals for the processor time of a save."""
    save = times[Module.name]
    middle, low, high = (1e6 * seconds for seconds in save.over(times[ClientSet.name]))
    yield Goal("save - `UpstashRedis.set(serialize_order)`: µs", middle, 50, (low, high))
    yield ratio("save / requests' Session alone", save, times[Session.name], 1.2)
    yield ratio("save / upstash-redis `set(ex=)`", save, times[Sdk.name], 0.85)
    background, alone = times[ModuleInBackground.name], times[SerializeAlone.name]
    yield ratio("background save / `serialize_order`", background, alone, 1.6)


def of_threads(times: Mapping[str, Times]) -> Goal:
    """Return the goal for saves from many threads."""
    what = "16 threads at 20 ms / a Session of requests in each"
    return ratio(what, times[Module.name], times[Session.name], 1.2)


def of_restore(result: restores.Result) -> Iterator[Goal]:
    """Yield the goals for a restore of this size."""
    for size, network, limit in ((10_000, "0 ms", 0.90), (restores.LARGEST, "20 ms", 0.65)):
        if result.size == size:
            times = result.times[network]
            what = f"restore {size:,} at {network} / upstash-redis by hand"
            yield ratio(what, times[Module.name], times[Sdk.name], limit)


def of_cold_start(ours: Times, theirs: Times) -> Goal:
    """Return the goal for a new process's first save."""
    return ratio("cold start / upstash-redis", ours, theirs, 0.90)


def of_imports(times: Mapping[str, Times]) -> Goal:
    """Return the goal for the import."""
    ours, theirs = times[Module.name], times["upstash_redis"]
    return ratio("import / import upstash_redis", ours, theirs, 0.35)


def of_memory(peak: int, result: int, size: int) -> Goal:
    """Return the goal for the memory that a restore takes."""
    return Goal(f"restore {size:,}: peak of memory / result", peak / result, 1.5)


def ratio(what: str, ours: Times, theirs: Times, limit: float) -> Goal:
    """Return the ratio of two contenders' times, of the same rounds."""
    middle, low, high = ours.ratio(theirs)
    return Goal(what, middle, limit, (low, high))
