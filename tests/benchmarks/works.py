"""The work that the contenders do in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any, NamedTuple

import redis

from upstash_state import deserialize_order

from .contenders import (
    Floor,
    Module,
    ModuleInLoop,
    ModuleSkipping,
    Orders,
    RedisPy,
    Sdk,
    SdkAsOriginal,
)
from .stub import Stub, Usage, stored_orders
from .timing import Sample, Times, in_turns, timed

#: How many orders the app holds in memory.
STATE = 500
#: How many orders KEYS + GET reads where the time for all is reckoned from them.
PART = 200
#: How many orders the largest database holds.
LARGEST = 100_000
#: Databases of the real Redis by how many orders they hold at the start.
REDIS_DATABASES = {0: 0, 10_000: 1, LARGEST: 2}


_ONE_BY_ONE = (SdkAsOriginal, RedisPy)


class Work:
    """Something that every contender can do.

    Attributes:
        name: What it is.
        kinds: Who does it.
        size: How many orders the database holds.
        repeat: How many times in a row make one sample.
    """

    name: str
    kinds: tuple[Any, ...]
    size = 0
    repeat = 1

    def given(self) -> Any:
        """What to do it with, made while the clock stands still."""
        return None

    def once(self, contender: Any, given: Any) -> object:
        """Do it."""
        raise NotImplementedError

    def before(self, contender: Any) -> object:
        """Whatever makes it not the first thing that a contender does."""
        return self.once(contender, self.given())

    def part(self, contender: Any, given: Any) -> float | None:
        """Do a part of it, where all would take minutes, and reckon the seconds for all."""
        return None


class Servers(NamedTuple):
    """What runs while the contenders take turns."""

    stub: Stub
    redis_port: int

    def contender(self, kind: Any, size: int, *, slow: bool) -> Any:
        """One that works on the database that holds so many orders."""
        if issubclass(kind, RedisPy):
            port = self.stub.slow_redis_port if slow else self.redis_port
            return kind(port, REDIS_DATABASES[size])
        return kind(self.stub.slow_url if slow else self.stub.url, str(size))

    def fill(self, size: int) -> None:
        """Put the orders into the real Redis that the stub holds already."""
        texts = stored_orders()
        with redis.Redis(port=self.redis_port, db=REDIS_DATABASES[size]) as client:
            for start in range(0, size, 1000):
                some = range(start, start + 1000)
                client.mset({f"order:{number}": texts[number % len(texts)] for number in some})

    def cost(self, work: Work, kind: Any) -> Usage:
        """What doing a work once costs, after another of its kind."""
        with closing(self.contender(kind, work.size, slow=False)) as contender:

            def once() -> None:
                work.once(contender, work.given())

            work.before(contender)
            if not issubclass(kind, RedisPy):
                before = self.stub.usage()
                once()
                return self.stub.usage().since(before)
            with redis.Redis(port=self.redis_port) as observer:
                nothing = _redis_usage(observer, lambda: None)
                return _redis_usage(observer, once).since(nothing)


def _redis_usage(observer: redis.Redis, work: Callable[[], object]) -> Usage:
    observer.config_resetstat()
    work()
    stats: Any = observer.info("stats")
    return Usage(
        0,
        stats["total_commands_processed"],
        stats["total_net_input_bytes"],
        stats["total_net_output_bytes"],
    )


class Save(Work):
    name = "save"
    kinds = (Module, Sdk, SdkAsOriginal, RedisPy, Floor)
    repeat = 20

    def __init__(self) -> None:
        self._order = next(iter(state().values()))

    def given(self) -> Any:
        return self._order

    def once(self, contender: Any, given: Any) -> object:
        return contender.save("0", given)


class Get(Work):
    name = "get"
    kinds = (Module, Sdk, RedisPy, Floor)
    size = 10_000
    repeat = 20

    def once(self, contender: Any, given: Any) -> object:
        return contender.get("0")


class SaveState(Work):
    """The original saves all orders that it holds at each change of one."""

    def __init__(self, changing: int) -> None:
        self.name = f"save {changing} changed of {STATE}"
        self.kinds = (Module, ModuleInLoop, Sdk, SdkAsOriginal, RedisPy, Floor)
        if changing < STATE:
            self.kinds = (*self.kinds[:2], ModuleSkipping, *self.kinds[2:])
        self._changing = changing
        self._orders = state()
        self._turns = count()

    def given(self) -> Any:
        note = f"change {next(self._turns):06}"
        return {
            order_id: {**order, "note": note} if place < self._changing else order
            for place, (order_id, order) in enumerate(self._orders.items())
        }

    def once(self, contender: Any, given: Any) -> object:
        if isinstance(contender, Floor) and self._changing < STATE:
            # The least that can be done: somebody knows which ones have changed.
            given = dict(list(given.items())[: self._changing])
        return contender.save_all(given)

    def part(self, contender: Any, given: Any) -> float | None:
        if not isinstance(contender, (ModuleInLoop, *_ONE_BY_ONE)):
            return None
        some = dict(list(given.items())[: STATE // 10])
        return timed(lambda: contender.save_all(some)) / len(some) * STATE


class Restore(Work):
    kinds = (Module, Sdk, SdkAsOriginal, RedisPy, Floor)

    def __init__(self, size: int) -> None:
        self.name = f"restore {size:,}"
        self.size = size

    def before(self, contender: Any) -> object:
        return contender.get("0")

    def once(self, contender: Any, given: Any) -> object:
        orders = contender.restore()
        assert len(orders) == self.size
        return orders

    def part(self, contender: Any, given: Any) -> float | None:
        if not isinstance(contender, _ONE_BY_ONE):
            return None
        begin = perf_counter()
        keys = contender.keys()
        first = perf_counter() - begin
        assert len(keys) == self.size
        return first + timed(lambda: contender.read(keys[:PART])) / PART * self.size


def state() -> Orders:
    """The orders that the app holds in memory."""
    texts = stored_orders()
    return {str(number): deserialize_order(texts[number % len(texts)]) for number in range(STATE)}


class Result(NamedTuple):
    """What a work took and cost, by contender. The first is this package."""

    work: str
    fast: dict[str, Times]
    slow: dict[str, Times]
    costs: dict[str, Usage]


def run(servers: Servers, *, quick: bool, only: str) -> Iterator[Result]:
    """Have every work done whose name holds `only`."""
    few = 3 if quick else 10
    works: list[tuple[Work, int]] = [
        (Save(), 20 * few),
        (Get(), 20 * few),
        (SaveState(STATE), few),
        (SaveState(1), few),
        (Restore(10_000), few),
    ]
    if not quick:
        works.append((Restore(LARGEST), 5))
    for work, rounds in works:
        if only in work.name:
            servers.fill(work.size)
            partly = quick or work.size > 10_000
            fast = _in_turns(servers, work, rounds, slow=False, partly=partly)
            slow = _in_turns(servers, work, max(rounds // 2, 3), slow=True, partly=True)
            costs = {
                kind.name: servers.cost(work, kind)
                for kind in work.kinds
                if not quick or not (isinstance(work, Restore) and kind in _ONE_BY_ONE)
            }
            yield Result(work.name, fast, slow, costs)


def _in_turns(
    servers: Servers, work: Work, rounds: int, *, slow: bool, partly: bool
) -> dict[str, Times]:
    extrapolated = set()

    def sample(contender: Any) -> float:
        given = work.given()
        seconds = work.part(contender, given) if partly else None
        if seconds is None:
            return timed(lambda: work.once(contender, given), 1 if slow else work.repeat)
        extrapolated.add(contender.name)
        return seconds

    with ExitStack() as stack:
        samples: dict[str, Sample] = {}
        for kind in work.kinds:
            contender = servers.contender(kind, work.size, slow=slow)
            stack.enter_context(closing(contender))
            samples[kind.name] = partial(sample, contender)
        times = in_turns(samples, rounds, tidy=work.repeat == 1)
    return {name: Times(taken, name in extrapolated) for name, taken in times.items()}
