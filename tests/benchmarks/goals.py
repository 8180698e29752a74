"""What the figures should be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .contenders import Floor, Module, ModuleSkipping, Sdk, SdkAsOriginal
from .timing import Times
from .works import Result

_OURS = Module.name


class Goal(NamedTuple):
    """One figure beside what it should be.

    Attributes:
        what: What is compared.
        figure: What it is.
        limit: What it should be.
        at_least: Whether more is better.
        spread: The quartiles of the figure, where it was timed.
    """

    what: str
    figure: float
    limit: float
    at_least: bool = False
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


def of_work(result: Result) -> Iterator[Goal]:
    """The goals for a work of the contenders."""
    fast, slow, costs = result.fast, result.slow, result.costs
    if result.work == "save":
        yield _most("save / upstash-redis set(ex=)", fast, Sdk.name, 0.80)
        yield _most("save / upstash-redis SET + EXPIRE", fast, SdkAsOriginal.name, 0.40)
        yield _most("save / urllib3 alone", fast, Floor.name, 1.30)
    elif result.work == "get":
        yield _most("get / upstash-redis", fast, Sdk.name, 0.85)
    elif result.work == "save 1 changed of 500":
        cost = costs[ModuleSkipping.name]
        yield Goal("save 1 changed of 500, skip unchanged: requests", cost.requests, 1)
        yield Goal("save 1 changed of 500, skip unchanged: commands", cost.commands, 1)
    elif result.work == "restore 10,000":
        yield _most("restore 10,000 / upstash-redis SCAN + MGET", fast, Sdk.name, 0.75)
        name = SdkAsOriginal.name
        yield _times("restore 10,000: upstash-redis KEYS + GET / ours", fast, name, 12)
        yield _times("restore 10,000, 20 ms: upstash-redis KEYS + GET / ours", slow, name, 150)
        yield Goal("restore 10,000: requests", costs[_OURS].requests, 12)
        yield Goal("restore 10,000: commands", costs[_OURS].commands, 22)


def of_imports(times: Mapping[str, Times]) -> Iterator[Goal]:
    """The goals for the import."""
    yield _most("import / import upstash_redis", times, "upstash_redis", 0.35)
    middle, low, high = times[_OURS].over(times["json, logging, datetime"])
    spread = (low * 1000, high * 1000)
    yield Goal("import over json, logging, datetime: ms", middle * 1000, 10, False, spread)


def of_texts(serialize: Mapping[str, Times], deserialize: Mapping[str, Times]) -> Iterator[Goal]:
    """The goals for orders to text and back."""
    yield _most("serialize_order / json.dumps", serialize, "json alone", 1.8)
    yield _most("deserialize_order / json.loads", deserialize, "json alone", 1.5)


def of_memory(peak: int, result: int, size: int) -> Iterator[Goal]:
    """The goal for the memory that a restore takes."""
    yield Goal(f"restore {size:,}: peak of memory / result", peak / result, 1.5)


def _most(what: str, times: Mapping[str, Times], theirs: str, limit: float) -> Goal:
    middle, low, high = times[_OURS].ratio(times[theirs])
    return Goal(what, middle, limit, False, (low, high))


def _times(what: str, times: Mapping[str, Times], theirs: str, limit: float) -> Goal:
    middle, low, high = times[theirs].ratio(times[_OURS])
    return Goal(what, middle, limit, True, (low, high))
