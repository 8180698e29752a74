"""For how long the caller is held up when it backs a change up, and what that costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from statistics import median, quantiles
from typing import Any, NamedTuple

import redis

from .contenders import (
    Floor,
    Module,
    ModuleInBackground,
    ModuleSkipping,
    RedisPy,
    Sdk,
    SdkAsOriginal,
    SdkAsyncio,
    SerializeAlone,
)
from .orders import State
from .stub import DELAYS, HANGING, NETWORKS, Stub, Usage
from .timing import in_turns, timed

OURS = (Module, ModuleSkipping, ModuleInBackground)
THEIRS = (Sdk, SdkAsOriginal, SdkAsyncio, RedisPy, Floor)
CONTENDERS = (*OURS, *THEIRS)
#: Those that send a request for each order, and so are timed with a part of STATE.
ONE_BY_ONE = (SdkAsOriginal, RedisPy)
#: How many orders that is, without and with a distance.
PART, PART_AWAY = 20, 2
#: Changes in a row that make one turn, and the seconds between them.
IN_A_ROW, PAUSE = 20, 0.001
#: After how many seconds somebody who waits for an endpoint that hangs is given up.
ENDLESS = 7.0
#: And for how long the others' changes are watched that are refused.
BROKEN = 5.0
#: Changes that are made there, if these do not last longer.
MANY_CHANGES = 200


class Held(NamedTuple):
    """For how long one contender's caller was held up, in seconds, a sample a change."""

    samples: list[float]
    #: Whether a part of STATE was timed and the rest reckoned from it.
    reckoned: bool = False
    #: Whether a call had not ended when it was given up.
    endless: bool = False

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def p99(self) -> float:
        if len(self.samples) < 100:
            return max(self.samples)
        return quantiles(self.samples, n=100, method="inclusive")[98]


class Work(NamedTuple):
    """What is saved at each change: one order, or a STATE of so many."""

    size: int

    @property
    def name(self) -> str:
        return f"STATE of {self.size}" if self.size > 1 else "one order"

    def once(self, contender: Any, state: State, part: int = PART_AWAY) -> float:
        """Change an order, and give the seconds for which its backup held the caller up."""
        order_id, orders = state.changed()
        if self.size == 1:
            return timed(lambda: contender.save(order_id, orders[order_id]))
        if not isinstance(contender, ONE_BY_ONE):
            return timed(lambda: contender.save_all(orders))
        some = dict(list(orders.items())[:part])
        return timed(lambda: contender.save_all(some)) / part * self.size


ONE, WEEK, MANY = Work(1), Work(105), Work(500)


class Result(NamedTuple):
    """One work by network and contender."""

    work: Work
    held: dict[str, dict[str, Held]]
    costs: dict[str, Usage]


def contender(stub: Stub, kind: Any, network: str) -> Any:
    if kind is RedisPy:
        return kind(stub.redis_port(network), 0)
    return kind(stub.url(network), "0")


def run(stub: Stub, *, quick: bool) -> Iterator[Result]:
    """Have all changes made and backed up."""
    for work in (ONE, WEEK) if quick else (ONE, WEEK, MANY):
        held = {}
        for network in NETWORKS:
            if quick and work is WEEK and network not in ("0 ms", "20 ms"):
                continue
            if network in DELAYS:
                held[network] = _in_turns(stub, work, network, quick=quick)
            else:
                held[network] = _broken(stub, work, network, quick=quick)
        yield Result(work, held, {kind.name: _cost(stub, work, kind) for kind in CONTENDERS})


def _in_turns(stub: Stub, work: Work, network: str, *, quick: bool) -> dict[str, Held]:
    # Turns, and changes in each: short of 100 changes, the 99th percentile is the longest.
    turns, row = {
        ("0 ms", True): (40, IN_A_ROW),
        ("20 ms", True): (10, IN_A_ROW),
        ("150 ms", True): (3, IN_A_ROW // 2),
        ("0 ms", False): (15, 2),
        ("20 ms", False): (10, 1),
        ("150 ms", False): (4, 1),
    }[network, work.size == 1]
    if quick:
        turns = max(turns // 4, 2)
        row = max(row // 5, 1) if DELAYS[network] else row
    part = PART_AWAY if DELAYS[network] else PART
    kinds = (*CONTENDERS, SerializeAlone)
    samples: dict[str, list[float]] = {kind.name: [] for kind in kinds}

    def turn(kind: Any, contender: Any, state: State) -> float:
        for _ in range(row):
            samples[kind.name].append(work.once(contender, state, part))
            time.sleep(PAUSE)
        contender.settle()
        return 0.0

    with ExitStack() as stack:
        all_turns = {}
        for kind in kinds:
            one = stack.enter_context(closing(contender(stub, kind, network)))
            all_turns[kind.name] = partial(turn, kind, one, State(max(work.size, IN_A_ROW)))
        in_turns(all_turns, turns, tidy=True)
    # The first turn opened the connections.
    return {
        kind.name: Held(samples[kind.name][row:], work.size > 1 and kind in ONE_BY_ONE)
        for kind in kinds
    }


def _broken(stub: Stub, work: Work, network: str, *, quick: bool) -> dict[str, Held]:
    # Whoever waits is no burden to the others; background mode saves, so it goes alone.
    kinds = (Module, *THEIRS)
    waiting = {kind.name: _Waiting(stub, work, kind, network) for kind in kinds}
    broken = BROKEN / 5 if quick else BROKEN
    until = time.perf_counter() + (ENDLESS if network == HANGING else broken)
    for kind in THEIRS:
        waiting[kind.name].join(max(0, until - time.perf_counter()))
    waiting[Module.name].join()
    alone = () if quick or work is not ONE else (ModuleSkipping,)
    for kind in (*alone, ModuleInBackground):
        waiting[kind.name] = _Waiting(stub, work, kind, network)
        waiting[kind.name].join()
    return {kind.name: waiting[kind.name].held() for kind in CONTENDERS if kind.name in waiting}


class _Waiting(threading.Thread):
    """Changes made by a thread of their own, which can be given up."""

    def __init__(self, stub: Stub, work: Work, kind: Any, network: str) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._contender = contender(stub, kind, network)
        self._state = State(max(work.size, IN_A_ROW))
        self._samples: list[float] = []
        self._given_up = False
        self._began = time.perf_counter()
        self.start()

    def run(self) -> None:
        while len(self._samples) < MANY_CHANGES and not self._given_up:
            self._began = time.perf_counter()
            with suppress(Exception):
                self._work.once(self._contender, self._state)
            self._samples.append(time.perf_counter() - self._began)
            time.sleep(PAUSE)

    def held(self) -> Held:
        self._given_up = True
        if self._samples:
            return Held(list(self._samples))
        return Held([time.perf_counter() - self._began], endless=True)


def _cost(stub: Stub, work: Work, kind: Any) -> Usage:
    """What one change costs, after another one."""
    state = State(max(work.size, 2))

    def once() -> None:
        order_id, orders = state.changed()
        if work.size == 1:
            one.save(order_id, orders[order_id])
        else:
            one.save_all(orders)
        one.settle()

    with closing(contender(stub, kind, "0 ms")) as one:
        once()
        if kind is not RedisPy:
            before = stub.usage()
            once()
            return stub.usage().since(before)
        with redis.Redis(port=stub.redis_port("0 ms")) as observer:
            nothing = _redis_commands(observer, lambda: None)
            return Usage(0, _redis_commands(observer, once) - nothing)


def _redis_commands(observer: redis.Redis, work: Callable[[], None]) -> int:
    observer.config_resetstat()
    work()
    stats: Any = observer.info("stats")
    return int(stats["total_commands_processed"])


def processor_time(stub: Stub, *, quick: bool) -> dict[str, list[float]]:
    """Seconds of this process's processors for a save of one order, its sending included."""

    def sample(one: Any, state: State) -> float:
        begin = time.process_time()
        for _ in range(IN_A_ROW):
            order_id, orders = state.changed()
            one.save(order_id, orders[order_id])
        one.settle()
        return (time.process_time() - begin) / IN_A_ROW

    with ExitStack() as stack:
        turns = {}
        for kind in CONTENDERS:
            one = stack.enter_context(closing(contender(stub, kind, "0 ms")))
            turns[kind.name] = partial(sample, one, State(IN_A_ROW))
        return in_turns(turns, 8 if quick else 40)
