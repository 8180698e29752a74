"""Samples taken in turns, and their statistics."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import NamedTuple

#: Does a contender's work once, and returns the seconds that it took.
Sample = Callable[[], float]


class Times(NamedTuple):
    """One contender's seconds, a sample for each round."""

    samples: list[float]
    #: Whether a part was timed, and the rest extrapolated.
    extrapolated: bool = False

    @property
    def median(self) -> float:
        return median(self.samples)

    def ratio(self, other: Times) -> tuple[float, float, float]:
        """Return these times as multiples of another's: their median and quartiles.

        The samples of one round are compared, because a busy machine slows both down.
        """
        return _spread([mine / theirs for mine, theirs in zip(self.samples, other.samples)])

    def over(self, other: Times) -> tuple[float, float, float]:
        """Return by how many seconds these are longer than another's: the median and quartiles."""
        return _spread([mine - theirs for mine, theirs in zip(self.samples, other.samples)])


def _spread(values: list[float]) -> tuple[float, float, float]:
    values.sort()
    quarter = len(values) // 4
    return median(values), values[quarter], values[-1 - quarter]


def in_turns(
    samples: Mapping[str, Sample], rounds: int, *, tidy: bool = False
) -> dict[str, list[float]]:
    """Take a sample of each in every round. Each round starts with another one.

    A first round, in which connections are opened, does not count.

    Args:
        samples: The functions to time, by name.
        rounds: The number of samples of each.
        tidy: Whether to collect garbage before each sample, so that none has to collect the
            garbage of another.
    """
    times: dict[str, list[float]] = {name: [] for name in samples}
    names = list(samples)
    for turn in range(-1, rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            if tidy:
                gc.collect()
            seconds = samples[name]()
            if turn >= 0:
                times[name].append(seconds)
    return times


def timed(
    work: Callable[[], object], times: int = 1, clock: Callable[[], float] = perf_counter
) -> float:
    """Return the seconds that a call took, the mean of several in a row."""
    begin = clock()
    for _ in range(times):
        # Kept until the clock was read, because freeing it is not part of the work.
        result = work()
    seconds = clock() - begin
    del result
    return seconds / times


def shown(seconds: float) -> str:
    """Return seconds with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            amount = seconds / size
            digits = max(0, 2 - math.floor(math.log10(amount))) if amount else 0
            return f"{amount:.{digits}f} {unit}"
    raise AssertionError
