"""Orders as they lie in Redis, for a person's tool: their text, and how long they have to live."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from math import isfinite
from typing import Any, NamedTuple

from ..errors import OrderUnreadableError, UpstashError
from ..serialization import deserialize_order
from ..store import OrderStore, created_at
from .durations import duration

#: What `TTL` answers for a key that never expires, and for one that does not exist.
NEVER, GONE = -1, -2
# How many values are read by id in one request: even large ones stay below what it may answer.
BATCH = 20


class Row(NamedTuple):
    """What is said of an order.

    Attributes:
        id: Its id.
        created_at: When it was created, None if it does not say.
        age: Seconds since then, None if it does not say.
        ttl: Seconds until it expires, `NEVER` if it does not.
        size: Bytes of its stored text.
        status: Its status, "" if it has none, "(unreadable)" if it is not an order in JSON.
        name: Its name, "" if it has none.
    """

    id: str
    created_at: datetime | None
    age: int | None
    ttl: int
    size: int
    status: str
    name: str

    def as_json(self) -> dict[str, Any]:
        """Its fields, as JSON can hold them."""
        return self._asdict() | {"created_at": self.created_at and self.created_at.isoformat()}

    def as_text(self) -> dict[str, str]:
        """Its fields for people."""
        return self._asdict() | {
            "created_at": "-" if self.created_at is None else self.created_at.isoformat(" "),
            "age": "-" if self.age is None else duration(self.age),
            "ttl": "never" if self.ttl == NEVER else duration(self.ttl),
            "size": f"{self.size:,}",
        }


class Stored(NamedTuple):
    """An order as it lies in Redis.

    Attributes:
        order_id: Its id.
        text: Its JSON text.
        ttl: Seconds until it expires, `NEVER` if it does not.
    """

    order_id: str
    text: str
    ttl: int

    def order(self) -> dict[str, Any] | None:
        """The order, None if it cannot be read."""
        try:
            return deserialize_order(self.text)
        except OrderUnreadableError:
            return None

    def row(self) -> Row:
        """What is said of it."""
        order = self.order()
        if order is None:
            order = {"status": "(unreadable)"}
        created = created_at(order)
        since = None if created is None else datetime.now(timezone.utc) - created
        age = None if since is None else int(since.total_seconds())
        size = len(self.text.encode(errors="replace"))
        shown = (order.get("status"), order.get("name"))
        status, name = (str(v) if isinstance(v, (str, int, float)) else "" for v in shown)
        return Row(self.order_id, created, age, self.ttl, size, status, name)

    def content(self) -> dict[str, Any]:
        """The order as JSON can hold it, datetimes as they are stored; else the stored text.

        Python's NaN and infinities, which are not JSON, become text.
        """
        if self.order() is None:
            return {"stored": self.text}
        return {"order": json.loads(self.text, parse_constant=str, parse_float=_number)}


@contextmanager
def opened() -> Iterator[OrderStore]:
    """The store that the environment names."""
    store = OrderStore.from_env()
    with store.client:
        yield store


def pages(store: OrderStore) -> Iterator[list[Stored]]:
    """All orders, a page at a time. Costs a command for each, and about two for each 1,000.

    Raises:
        UpstashError: Redis could not be asked, or refused.
    """
    for page in store.iter_texts():
        pipeline = store.client.pipeline(transaction=False)
        for order_id, _ in page:
            pipeline.ttl(store.key(order_id))
        stored = (Stored(*pair, ttl) for pair, ttl in zip(page, pipeline.execute()))
        yield [one for one in stored if one.ttl != GONE]


def read(store: OrderStore, order_ids: Sequence[str]) -> dict[str, Stored | UpstashError]:
    """Orders by id, without those that do not exist. Costs two commands for each.

    Returns:
        Each order, or why its key cannot be read: it may hold another type.

    Raises:
        UpstashError: Redis could not be asked, or refused.
    """
    found: dict[str, Stored | UpstashError] = {}
    for begin in range(0, len(order_ids), BATCH):
        batch = order_ids[begin : begin + BATCH]
        pipeline = store.client.pipeline(transaction=False)
        for order_id in batch:
            pipeline.get(store.key(order_id)).ttl(store.key(order_id))
        results = pipeline.execute(raise_on_error=False)
        for order_id, text, ttl in zip(batch, results[::2], results[1::2]):
            if isinstance(text, UpstashError):
                found[order_id] = text
            elif text is not None and ttl != GONE:
                found[order_id] = Stored(order_id, text, ttl)
    return found


def _number(text: str) -> float | str:
    return float(text) if isfinite(float(text)) else text
