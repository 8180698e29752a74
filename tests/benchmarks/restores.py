"""How long a restore of all orders takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import redis

from .contenders import Module, RedisPy, Sdk, SdkAsOriginal, Session
from .stub import Stub, stored_orders
from .timing import Sample, Times, in_turns, timed

CONTENDERS = (Module, Sdk, SdkAsOriginal, RedisPy, Session)
ONE_BY_ONE = (SdkAsOriginal, RedisPy)
NETWORKS = ("0 ms", "20 ms")
#: The number of orders that KEYS + GET reads. The time for all is extrapolated.
PART, PART_AWAY = 100, 10
LARGEST = 100_000
#: The databases of the real Redis, by the number of their orders.
DATABASES = {105: 1, 10_000: 2, LARGEST: 3}


class Result(NamedTuple):
    """The times of a restore of this size, by network and contender."""

    size: int
    times: dict[str, dict[str, Times]]


def run(stub: Stub, *, quick: bool) -> Iterator[Result]:
    """Let every contender restore all orders."""
    rounds = {105: 5, 10_000: 2} if quick else {105: 30, 10_000: 8, LARGEST: 3}
    for size, number in rounds.items():
        _fill(stub, size)
        networks = NETWORKS[:1] if quick and size > 105 else NETWORKS
        times = {network: _in_turns(stub, size, network, number) for network in networks}
        yield Result(size, times)


def _in_turns(stub: Stub, size: int, network: str, rounds: int) -> dict[str, Times]:
    with ExitStack() as stack:
        samples: dict[str, Sample] = {}
        for kind in CONTENDERS:
            contender = stack.enter_context(closing(_contender(stub, kind, size, network)))
            contender.read_one()
            part = PART if network == NETWORKS[0] else PART_AWAY
            work = partial(_part, part=part) if kind in ONE_BY_ONE else _whole
            samples[kind.name] = partial(work, contender, size)
        times = in_turns(samples, rounds, tidy=True)
    extrapolated = {kind.name for kind in ONE_BY_ONE}
    return {name: Times(taken, name in extrapolated) for name, taken in times.items()}


def _whole(contender: Any, size: int) -> float:
    begin = perf_counter()
    orders = contender.restore()
    seconds = perf_counter() - begin
    assert len(orders) == size
    return seconds


def _part(contender: Any, size: int, *, part: int) -> float:
    begin = perf_counter()
    keys = contender.keys()
    first = perf_counter() - begin
    assert len(keys) == size
    return first + timed(lambda: contender.read(keys[:part])) / part * size


def _contender(stub: Stub, kind: Any, size: int, network: str) -> Any:
    if kind is RedisPy:
        return kind(stub.redis_port(network), DATABASES[size])
    return kind(stub.url(network), str(size))


def _fill(stub: Stub, size: int) -> None:
    """Put the stub's orders into the real Redis."""
    texts = stored_orders()
    with redis.Redis(port=stub.redis_port("0 ms"), db=DATABASES[size]) as client:
        for start in range(0, size, 1000):
            some = range(start, min(start + 1000, size))
            client.mset({f"order:{number}": texts[number % len(texts)] for number in some})
