"""Orders as they lie in Redis, for a person's tool: their text, and how long they have to live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any, NamedTuple

from ..errors import OrderUnreadableError
from ..serialization import deserialize_order
from ..store import OrderStore

#: What `TTL` answers for a key that never expires, and for one that does not exist.
NEVER, GONE = -1, -2

BATCH = 1000


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


def key_of(store: OrderStore, order_id: str) -> str:
    """The key that a store keeps an order under."""
    return f"{store.prefix}{order_id}"


def pages(store: OrderStore) -> Iterator[list[Stored]]:
    """All orders, a page at a time. Costs a command for each, and about two for each 1,000.

    Raises:
        UpstashError: Redis could not be asked, or refused.
    """
    for page in store.iter_texts():
        pipeline = store.client.pipeline(transaction=False)
        for order_id, _ in page:
            pipeline.ttl(key_of(store, order_id))
        ttls: list[int] = pipeline.execute()
        yield [
            Stored(order_id, text, ttl) for (order_id, text), ttl in zip(page, ttls) if ttl != GONE
        ]


def read(store: OrderStore, order_id: str) -> Stored | None:
    """One order, None if there is none.

    Raises:
        UpstashError: Redis could not be asked, or refused.
    """
    key = key_of(store, order_id)
    text, ttl = store.client.pipeline(transaction=False).get(key).ttl(key).execute()
    return None if text is None or ttl == GONE else Stored(order_id, text, ttl)


def delete(store: OrderStore, order_ids: Iterable[str]) -> Iterator[int]:
    """Delete orders, a command for each 1,000. After each it gives how many there were in it.

    Raises:
        UpstashError: Redis may still hold some.
    """
    rest = iter(order_ids)
    while batch := list(islice(rest, BATCH)):
        yield store.client.delete(*(key_of(store, order_id) for order_id in batch))


def order_in(text: str) -> dict[str, Any] | None:
    """The order in a stored text, None if it cannot be read."""
    try:
        return deserialize_order(text)
    except OrderUnreadableError:
        return None


def created_at(order: dict[str, Any] | None) -> datetime | None:
    """When an order was created, None if it does not say. Without an offset it is read as UTC.

    Not as this machine's time: the same backup must not be of another age when it is looked at
    from elsewhere, and where apps are hosted the clocks are mostly in UTC.
    """
    moment = None if order is None else order.get("created_at")
    if not isinstance(moment, datetime):
        return None
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=timezone.utc)
