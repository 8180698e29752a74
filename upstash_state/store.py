"""OrderStore: orders in Redis. Keys, expiry, batches, the restore. Raises `UpstashError`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from logging import getLogger
from time import perf_counter, time

from .batches import Save, cut
from .client import UpstashRedis
from .errors import (
    AnswerError,
    DataError,
    OrderUnreadableError,
    RequestTooLargeError,
    RestoreError,
    SaveManyError,
    UpstashError,
)
from .restore import Walk
from .serialization import deserialize_order, deserialize_orders, serialize_order
from .settings import Settings
from .unchanged import Unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

log = getLogger("upstash_state")

# Counting needs the keys only, so a page of them may be larger than one of orders.
COUNTING_PAGE = 10_000
# Below every plan's limit for a request, which is 10 MB or more.
MAX_BODY_BYTES = 4_000_000


class Health:
    """What `OrderStore.health` found.

    Attributes:
        ok: Whether the endpoint answered and accepted the token.
        latency: Seconds that the answer took; None if there was none.
        orders: How many orders Redis holds; None if it could not be asked.
        error: What went wrong; None if nothing did.
    """

    __slots__ = ("error", "latency", "ok", "orders")

    def __init__(
        self,
        *,
        latency: float | None = None,
        orders: int | None = None,
        error: UpstashError | None = None,
    ) -> None:
        self.ok = error is None
        self.latency = latency
        self.orders = orders
        self.error = error

    def __repr__(self) -> str:
        return (
            f"Health(ok={self.ok}, latency={self.latency}, orders={self.orders}, "
            f"error={self.error!r})"
        )


class OrderStore:
    """Orders in Redis, for callers who want to know what went wrong.

    Every method raises an `UpstashError` where the function of the same purpose falls back:
    `UnavailableError` when the endpoint could not be asked, `ResponseError` when it refused.

    Args:
        client: The database.
        prefix: What an order's key begins with.
        ttl: Seconds until a saved order expires.
        skip_unchanged: Seconds for which an order that is byte for byte what this store last
            saved is not sent again; 0 for never. It trades certainty for commands: what another
            writer changed, or Redis evicted, goes unnoticed for that long.
        clock: The time of day in seconds.
    """

    def __init__(
        self,
        client: UpstashRedis,
        *,
        prefix: str = "order:",
        ttl: int = 604_800,
        skip_unchanged: float = 0,
        clock: Callable[[], float] = time,
    ) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = ttl
        self._clock = clock
        self._unchanged = Unchanged(skip_unchanged, clock)
        self._counted: tuple[float, int] | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> OrderStore:
        """A store as the environment's UPSTASH_… variables say, as the functions use it.

        Args:
            environ: The variables; `os.environ` when left out.

        Raises:
            MissingCredentialsError: The environment names no database.
            SettingsError: What it names cannot be used.
        """
        client = UpstashRedis.from_env(environ)
        settings = Settings(os.environ if environ is None else environ)
        for complaint in settings.complaints:
            log.warning(complaint)
        return cls(
            client,
            prefix=settings.prefix,
            ttl=settings.ttl,
            skip_unchanged=settings.skip_unchanged,
        )

    def __repr__(self) -> str:
        return f"<OrderStore {self.prefix!r} in {self.client!r}>"

    def save(self, order_id: str | int, order: dict[str, Any]) -> None:
        """Save an order under its id, to expire `ttl` seconds from now. One command.

        Args:
            order_id: Any text, or an int, which is stored as its decimal digits.
            order: The order.

        Raises:
            OrderNotSerializableError: JSON cannot hold it. Nothing was sent.
            UpstashError: Redis may not hold it.
        """
        key = self._key(order_id)
        text = serialize_order(order)
        digest = self._unchanged.digest(text)
        if digest and self._unchanged.holds(key, digest):
            return
        with self._unchanged.changing(key) as change:
            # Expiry and value in one command, so that no order is ever without an expiry
            # (Redis's documentation of SET). Sent twice, it leaves the same.
            if not self.client.set(key, text, ex=self.ttl):
                raise AnswerError("SET was answered with null, as if it had a condition")
            change.digest = digest

    def get(self, order_id: str | int) -> dict[str, Any] | None:
        """The order of this id, None if there is none.

        Raises:
            OrderUnreadableError: What is stored under the id is no order.
            UpstashError: Redis could not be asked, or refused.
        """
        text = self.client.get(self._key(order_id))
        return None if text is None else deserialize_order(text)

    def delete(self, order_id: str | int) -> None:
        """Delete an order. It is no error if there is none.

        Raises:
            UpstashError: Redis may still hold it.
        """
        key = self._key(order_id)
        with self._unchanged.changing(key):
            self.client.delete(key)

    def get_all(self) -> dict[str, dict[str, Any]]:
        """All orders by id. Costs about two commands for each 1,000 orders.

        An order that cannot be read is left out and named in the log.

        Raises:
            RestoreError: Not all could be read; its `__cause__` says why.
        """
        return dict(self.iter_all())

    def iter_all(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All orders with their ids, like `get_all`, but holding one page of them at a time."""
        try:
            for page in self.iter_texts():
                orders = deserialize_orders([text for _, text in page])
                for (order_id, _), order in zip(page, orders):
                    if isinstance(order, OrderUnreadableError):
                        _log_unreadable(order_id, order)
                    else:
                        yield order_id, order
        except UpstashError as error:
            raise RestoreError(str(error)) from error

    def iter_texts(self) -> Iterator[list[tuple[str, str]]]:
        """All orders as they are stored, with their ids, a page at a time.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """

        def on_unreadable(key: str, error: UpstashError) -> None:
            _log_unreadable(self._order_id(key), error)

        for page in Walk(self.client, self._pattern(), on_unreadable).pages():
            yield [(self._order_id(key), text) for key, text in page]

    def count(self) -> int:
        """How many orders Redis holds. Costs a command for each 10,000 keys of the database.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """
        # A set, since SCAN may give a key twice.
        keys = set(self.client.scan_iter(self._pattern(), COUNTING_PAGE, "string"))
        self._counted = (self._clock(), len(keys))
        return len(keys)

    def health(self, *, max_age: float = 60.0) -> Health:
        """Whether the endpoint answers, how fast, and how many orders it holds. Does not raise.

        Args:
            max_age: Seconds for which a count is taken from memory. Health checks are polled, and
                every command is billed: one PING each time, a count at most so often.
        """
        begin = perf_counter()
        try:
            self.client.ping()
            latency = perf_counter() - begin
            if self._counted is None or not 0 <= self._clock() - self._counted[0] < max_age:
                self.count()
        except UpstashError as error:
            return Health(error=error)
        assert self._counted is not None
        return Health(latency=latency, orders=self._counted[1])

    def save_many(self, orders: Mapping[str, dict[str, Any]]) -> list[str]:
        """Save many orders in few requests, one command each. Each request has its time budget.

        Args:
            orders: The orders by id.

        Returns:
            The ids of the orders that Redis now holds: all of them.

        Raises:
            SaveManyError: Some could not be saved; its `failed` says which and why, its `saved`
                which were. Once the endpoint cannot be asked, or refuses a request as a whole,
                no further request is made.
        """
        saved: dict[str, None] = {}
        failed: dict[str, UpstashError] = {}
        ended: UpstashError | None = None
        for batch in cut(self._prepared(orders, saved, failed), MAX_BODY_BYTES):
            ended = ended or self._save_batch(batch, saved, failed)
            if ended is not None:
                failed.update(
                    {save.order_id: ended for save in batch if save.order_id not in saved}
                )
        if failed:
            raise SaveManyError([order_id for order_id in saved if order_id not in failed], failed)
        return list(saved)

    def _prepared(
        self,
        orders: Mapping[str, dict[str, Any]],
        saved: dict[str, None],
        failed: dict[str, UpstashError],
    ) -> Iterator[Save]:
        for order_id, order in orders.items():
            try:
                key, text = self._key(order_id), serialize_order(order)
            except UpstashError as error:
                failed[str(order_id)] = error
                continue
            digest = self._unchanged.digest(text)
            if digest and self._unchanged.holds(key, digest):
                saved[str(order_id)] = None
            else:
                yield Save(str(order_id), key, text, digest)

    def _save_batch(
        self, batch: list[Save], saved: dict[str, None], failed: dict[str, UpstashError]
    ) -> UpstashError | None:
        try:
            with ExitStack() as stack:
                pipeline = self.client.pipeline(transaction=False)
                changes = []
                for save in batch:
                    changes.append(stack.enter_context(self._unchanged.changing(save.key)))
                    pipeline.set(save.key, save.text, ex=self.ttl)
                for save, change, result in zip(batch, changes, pipeline.execute(False)):
                    if result is True:
                        change.digest = save.digest
                        saved[save.order_id] = None
                    elif isinstance(result, UpstashError):
                        failed[save.order_id] = result
                    else:
                        failed[save.order_id] = AnswerError("SET was answered with null")
        except RequestTooLargeError as error:
            if len(batch) == 1:
                failed[batch[0].order_id] = error
                return None
            half = len(batch) // 2
            return self._save_batch(batch[:half], saved, failed) or self._save_batch(
                batch[half:], saved, failed
            )
        except UpstashError as error:
            return error
        return None

    def _key(self, order_id: str | int) -> str:
        if isinstance(order_id, bool) or not isinstance(order_id, (str, int)):
            raise DataError(f"an order id must be str or int, not {type(order_id).__name__}")
        try:
            return f"{self.prefix}{order_id}"
        except ValueError as error:
            # Python writes no int of more than 4300 digits (sys.set_int_max_str_digits).
            raise DataError(f"an order id that is no id: {error}") from None

    def _order_id(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def _pattern(self) -> str:
        return "".join("\\" + c if c in r"\*?[]" else c for c in self.prefix) + "*"


def _log_unreadable(order_id: str, error: UpstashError) -> None:
    log.error(
        "Failed to get order %s from Redis: %s",
        order_id,
        error,
        extra={"operation": "redis_get_all_orders", "order_id": order_id},
    )
