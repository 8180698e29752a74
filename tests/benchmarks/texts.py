"""Orders to text and back, beside what Python's json takes for the same text."""

from __future__ import annotations

import json
from functools import partial

from upstash_state import deserialize_order, serialize_order

from .stub import stored_orders
from .timing import Times, in_turns, timed


def serialize(rounds: int) -> dict[str, Times]:
    """All stored orders to text; json gets them with their dates as text already."""
    texts = stored_orders()
    orders = [deserialize_order(text) for text in texts]
    plain = [json.loads(text) for text in texts]
    dumps = partial(json.dumps, ensure_ascii=False)
    return _each(
        {"serialize_order": (serialize_order, orders), "json.dumps": (dumps, plain)}, rounds
    )


def deserialize(rounds: int) -> dict[str, Times]:
    """All stored orders from text."""
    texts = stored_orders()
    return _each(
        {"deserialize_order": (deserialize_order, texts), "json.loads": (json.loads, texts)}, rounds
    )


def _each(contenders: dict, rounds: int) -> dict[str, Times]:  # type: ignore[type-arg]
    def sample(function, items):  # type: ignore[no-untyped-def]
        return timed(lambda: [function(item) for item in items]) / len(items)

    samples = {name: partial(sample, *pair) for name, pair in contenders.items()}
    return {name: Times(taken) for name, taken in in_turns(samples, rounds).items()}
