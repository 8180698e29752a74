"""Orders as Redis stores them: their text, and what a table shows of it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from math import isfinite
from typing import Any, NamedTuple

from .. import OrderStore, OrderUnreadableError, UpstashError, deserialize_order
from ..store import created_at
from .requests import in_requests
from .terminal import duration

#: TTL of a key that never expires, and of one that does not exist.
NEVER, GONE = -1, -2


class Row(NamedTuple):
    """What a table shows of an order.

    Attributes:
        id: Its id.
        created_at: When it was created; None if this is not known.
        age: Seconds since then; None if this is not known.
        ttl: Seconds until it expires; `NEVER` if it never does, None if it was not requested.
        size: Bytes of its stored text.
        status: Its status; "" if it has none, "(unreadable)" if it is not an order in JSON.
        name: Its name; "" if it has none.
    """

    id: str
    created_at: datetime | None = None
    age: int | None = None
    ttl: int | None = None
    size: int = 0
    status: str = ""
    name: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return its fields as JSON can hold them."""
        return self._asdict() | {"created_at": self.created_at and self.created_at.isoformat()}

    def as_text(self) -> dict[str, str]:
        """Return its fields as texts for people."""
        return self._asdict() | {
            "created_at": "-" if self.created_at is None else self.created_at.isoformat(" "),
            "age": "-" if self.age is None else duration(self.age),
            "ttl": "" if self.ttl is None else "never" if self.ttl == NEVER else duration(self.ttl),
            "size": f"{self.size:,}",
        }


@contextmanager
def opened() -> Iterator[OrderStore]:
    """Open the store that the environment names."""
    store = OrderStore.from_env()
    with store.client:
        yield store


def row(order_id: str, text: str, ttl: int | None = None) -> Row:
    """Return what a table shows of an order."""
    try:
        order = deserialize_order(text)
    except OrderUnreadableError:
        order = {"status": "(unreadable)"}
    created = created_at(order)
    age = int((datetime.now(timezone.utc) - created).total_seconds()) if created else None
    status, name = (
        str(value) if isinstance(value, (str, int, float)) else ""
        for value in (order.get("status"), order.get("name"))
    )
    return Row(order_id, created, age, ttl, len(text.encode(errors="replace")), status, name)


def content(text: str) -> dict[str, Any]:
    """Return `{"order": …}` as JSON can hold it, datetimes as they are stored.

    Python's NaN and infinities, which are not JSON, become text. For text that is not an order,
    return `{"stored": text}`.
    """
    try:
        deserialize_order(text)
    except OrderUnreadableError:
        return {"stored": text}
    return {"order": json.loads(text, parse_constant=str, parse_float=_number)}


def pretty(content: dict[str, Any]) -> str:
    """Return an order, or other stored text, for people."""
    return content.get("stored") or json.dumps(content["order"], ensure_ascii=False, indent=2)


def ask(
    store: OrderStore, ids: Iterable[str], *commands: str, raise_on_error: bool = True
) -> Iterator[tuple[str, list[Any]]]:
    """Send commands for each order. The next request follows when the last results were taken.

    Args:
        store: The orders.
        ids: Their ids.
        commands: The names of commands whose only argument is a key, such as `ttl`.
        raise_on_error: Whether to raise the error of a command. If False, yield it as its result.

    Yields:
        Each id with the results of the commands.
    """

    def send(part: Sequence[str]) -> list[list[Any]]:
        pipeline = store.client.pipeline(transaction=False)
        for order_id in part:
            for name in commands:
                getattr(pipeline, name)(store.key(order_id))
        results = pipeline.execute(raise_on_error)
        return [results[i : i + len(commands)] for i in range(0, len(results), len(commands))]

    for order_id, results in in_requests(ids, send):
        if isinstance(results, UpstashError) and raise_on_error:
            raise results
        yield order_id, [results] if isinstance(results, UpstashError) else results


def _number(text: str) -> float | str:
    return float(text) if isfinite(float(text)) else text
