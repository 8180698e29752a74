"""How long the backup of a change holds its caller up, and what it costs."""

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
    ClientSet,
    Module,
    ModuleInBackground,
    RedisPy,
    Sdk,
    SdkAsOriginal,
    SerializeAlone,
    Session,
)
from .orders import State
from .stub import DELAYS, HANGING, NETWORKS, Stub, Usage
from .timing import Times, in_turns, timed

THEIRS = (Sdk, SdkAsOriginal, RedisPy, Session)
CONTENDERS = (Module, ModuleInBackground, *THEIRS)
#: The contenders that send a request for each order. They are timed with a part of STATE.
ONE_BY_ONE = (SdkAsOriginal, RedisPy)
#: The orders in that part, without and with a network delay.
PART, PART_AWAY = 20, 2
#: The changes of one turn, and the seconds between them.
IN_A_ROW, PAUSE = 20, 0.001
#: Seconds until the benchmark gives up a contender that waits for a hanging endpoint.
ENDLESS = 7.0
#: Seconds for which contenders make changes while the endpoint refuses connections.
BROKEN = 5.0
#: The number of changes after which they stop earlier.
MANY_CHANGES = 200
THREADS = 16


class Held(NamedTuple):
    """How long one contender's caller was held up: the seconds of each change."""

    samples: list[float]
    #: Whether a part of STATE was timed, and the rest extrapolated.
    extrapolated: bool = False
    #: Whether a call had not ended when the benchmark gave it up.
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
    """What is saved at each change: one order, or all orders of a STATE."""

    size: int

    @property
    def name(self) -> str:
        return f"STATE of {self.size}" if self.size > 1 else "one order"

    def once(self, contender: Any, state: State, part: int = PART_AWAY) -> float:
        """Change an order, and return the seconds for which its backup held the caller up."""
        order_id, orders = state.changed()
        if self.size == 1:
            return timed(lambda: contender.save(order_id, orders[order_id]))
        if not isinstance(contender, ONE_BY_ONE):
            return timed(lambda: contender.save_all(orders))
        some = dict(list(orders.items())[:part])
        return timed(lambda: contender.save_all(some)) / part * self.size


ONE, WEEK = Work(1), Work(105)


class Result(NamedTuple):
    """The figures of one kind of work, by network and contender."""

    work: Work
    held: dict[str, dict[str, Held]]
    costs: dict[str, Usage]


def contender(stub: Stub, kind: Any, network: str) -> Any:
    if kind is RedisPy:
        return kind(stub.redis_port(network), 0)
    return kind(stub.url(network), "0")


def run(stub: Stub, *, quick: bool) -> Iterator[Result]:
    """Let every contender back up changes."""
    for work in (ONE, WEEK):
        held = {}
        for network in NETWORKS:
            if network in DELAYS:
                held[network] = _in_turns(stub, work, network, quick=quick)
            elif work is ONE:
                held[network] = _broken(stub, network, quick=quick)
        yield Result(work, held, {kind.name: _cost(stub, work, kind) for kind in CONTENDERS})


def _in_turns(stub: Stub, work: Work, network: str, *, quick: bool) -> dict[str, Held]:
    # With fewer than 100 changes, the 99th percentile is the longest.
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
    samples: dict[str, list[float]] = {kind.name: [] for kind in CONTENDERS}

    def turn(kind: Any, contender: Any, state: State) -> float:
        for _ in range(row):
            samples[kind.name].append(work.once(contender, state, part))
            time.sleep(PAUSE)
        contender.settle()
        return 0.0

    with ExitStack() as stack:
        all_turns = {}
        for kind in CONTENDERS:
            one = stack.enter_context(closing(contender(stub, kind, network)))
            all_turns[kind.name] = partial(turn, kind, one, State(max(work.size, IN_A_ROW)))
        in_turns(all_turns, turns, tidy=True)
    # The first turn opened the connections.
    return {
        kind.name: Held(samples[kind.name][row:], work.size > 1 and kind in ONE_BY_ONE)
        for kind in CONTENDERS
    }


def _broken(stub: Stub, network: str, *, quick: bool) -> dict[str, Held]:
    # Contenders that wait do not slow the others down. Background mode is busy, so it runs alone.
    waiting = {kind.name: _Waiting(stub, kind, network) for kind in (Module, *THEIRS)}
    broken = BROKEN / 5 if quick else BROKEN
    until = time.perf_counter() + (ENDLESS if network == HANGING else broken)
    for kind in THEIRS:
        waiting[kind.name].join(max(0, until - time.perf_counter()))
    waiting[Module.name].join()
    background = waiting[ModuleInBackground.name] = _Waiting(stub, ModuleInBackground, network)
    background.join()
    return {kind.name: waiting[kind.name].held() for kind in CONTENDERS}


class _Waiting(threading.Thread):
    """A thread that makes changes, and can be given up."""

    def __init__(self, stub: Stub, kind: Any, network: str) -> None:
        super().__init__(daemon=True)
        self._contender = contender(stub, kind, network)
        self._state = State(IN_A_ROW)
        self._samples: list[float] = []
        self._given_up = False
        self._began = time.perf_counter()
        self.start()

    def run(self) -> None:
        while len(self._samples) < MANY_CHANGES and not self._given_up:
            self._began = time.perf_counter()
            with suppress(Exception):
                ONE.once(self._contender, self._state)
            self._samples.append(time.perf_counter() - self._began)
            time.sleep(PAUSE)

    def held(self) -> Held:
        self._given_up = True
        if self._samples:
            return Held(list(self._samples))
        return Held([time.perf_counter() - self._began], endless=True)


def _cost(stub: Stub, work: Work, kind: Any) -> Usage:
    """Return what one change costs, after another one."""
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


def processor_time(stub: Stub, *, quick: bool) -> dict[str, Times]:
    """Return the seconds of processor time that the saving thread takes for one order."""

    def sample(one: Any, state: State) -> float:
        seconds = 0.0
        for _ in range(IN_A_ROW):
            order_id, orders = state.changed()
            save = partial(one.save, order_id, orders[order_id])
            seconds += timed(save, clock=time.thread_time)
        one.settle()
        return seconds / IN_A_ROW

    with ExitStack() as stack:
        turns = {}
        for kind in (*CONTENDERS, ClientSet, SerializeAlone):
            one = stack.enter_context(closing(contender(stub, kind, "0 ms")))
            turns[kind.name] = partial(sample, one, State(IN_A_ROW))
        rounds = 20 if quick else 200
        return {name: Times(taken) for name, taken in in_turns(turns, rounds).items()}


def from_threads(stub: Stub, *, quick: bool) -> dict[str, Times]:
    """Return the seconds for each order when many threads save different orders, at 20 ms."""

    def sample(each: list[Any], state: State) -> float:
        def save(number: int) -> None:
            for _ in range(IN_A_ROW):
                each[number].save(str(number), state.orders[str(number)])

        threads = [threading.Thread(target=save, args=(number,)) for number in range(THREADS)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - begin) / (THREADS * IN_A_ROW)

    with ExitStack() as stack:
        turns = {}
        for kind in (Module, Sdk, Session):
            # A Session must not be shared by threads.
            number = THREADS if kind is Session else 1
            some = [contender(stub, kind, "20 ms") for _ in range(number)]
            for one in some:
                stack.enter_context(closing(one))
            turns[kind.name] = partial(sample, some * (THREADS // number), State(THREADS))
        rounds = 3 if quick else 20
        return {name: Times(taken) for name, taken in in_turns(turns, rounds).items()}
