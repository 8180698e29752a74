"""Orders to text and back, beside what Python's json takes for the same text."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from time import thread_time
from typing import Any

from upstash_state import deserialize_order, serialize_order

from .stub import stored_orders
from .timing import Times, in_turns, timed


def serialize(rounds: int) -> dict[str, Times]:
    """An order to text, the mean of all stored ones; json gets their dates as text already."""
    texts = stored_orders()
    dumps = partial(json.dumps, ensure_ascii=False)
    orders, plain = map(deserialize_order, texts), map(json.loads, texts)
    return _in_turns(rounds, (serialize_order, list(orders)), (dumps, list(plain)))


def deserialize(rounds: int) -> dict[str, Times]:
    """An order from text, the mean of all stored ones."""
    texts = stored_orders()
    return _in_turns(rounds, (deserialize_order, texts), (json.loads, texts))


def _in_turns(
    rounds: int,
    ours: tuple[Callable[[Any], object], list[Any]],
    json_alone: tuple[Callable[[Any], object], list[Any]],
) -> dict[str, Times]:
    def sample(convert: Callable[[Any], object], items: list[Any]) -> float:
        # Processor time: nothing is waited for here but other processes.
        return timed(lambda: [convert(item) for item in items], clock=thread_time) / len(items)

    samples = {"upstash_state": partial(sample, *ours), "json alone": partial(sample, *json_alone)}
    return {name: Times(taken) for name, taken in in_turns(samples, rounds).items()}
