"""Samples taken in turns, and what they say."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import NamedTuple

#: Does a contender's work once and returns the seconds that it took.
Sample = Callable[[], float]


class Times(NamedTuple):
    """One contender's seconds, a sample a round."""

    samples: list[float]
    #: Whether a part was timed and the rest reckoned from it.
    extrapolated: bool = False

    @property
    def median(self) -> float:
        return median(self.samples)

    def ratio(self, other: Times) -> tuple[float, float, float]:
        """These times as multiples of another's: their median and quartiles.

        Of each round both belong together: what slowed the machine down then, slowed both.
        """
        return _spread([mine / theirs for mine, theirs in zip(self.samples, other.samples)])

    def over(self, other: Times) -> tuple[float, float, float]:
        """By how many seconds these are longer than another's: the median and quartiles."""
        return _spread([mine - theirs for mine, theirs in zip(self.samples, other.samples)])


def _spread(values: list[float]) -> tuple[float, float, float]:
    values.sort()
    quarter = len(values) // 4
    return median(values), values[quarter], values[-1 - quarter]


def in_turns(
    samples: Mapping[str, Sample], rounds: int, *, tidy: bool = False
) -> dict[str, list[float]]:
    """Take a sample of each in every round, another one first each time.

    Nothing is thrown away but one round at the start, in which connections are opened.

    Args:
        samples: What to time, by name.
        rounds: How many samples to take of each.
        tidy: Whether to collect garbage before each, so that what the one before left behind is
            not this one's to clear away.
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
    """Seconds that a call took by a clock, the mean of so many in a row."""
    begin = clock()
    for _ in range(times):
        # Kept until the clock has been read: to give it up is not part of the work.
        result = work()
    seconds = clock() - begin
    del result
    return seconds / times


def shown(seconds: float) -> str:
    """Seconds for people, three digits of them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            amount = seconds / size
            digits = max(0, 2 - math.floor(math.log10(amount))) if amount else 0
            return f"{amount:.{digits}f} {unit}"
    raise AssertionError
