"""OrderStore: orders in Redis. Keys, expiry, the restore, health. Raises `UpstashError`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from logging import getLogger
from typing import Any, NamedTuple

from .client import UpstashRedis
from .entry import Ticket
from .errors import (
    DataError,
    OrderUnreadableError,
    RestoreError,
    SaveManyError,
    UnavailableError,
    UpstashError,
)
from .restore import Walk
from .saver import Saver
from .serialization import (
    deserialize_order,
    deserialize_orders,
    order_id_text,
    serialize_order,
    shown_order_id,
)
from .settings import Settings, own_variables

log = getLogger("upstash_state")

# Counting needs the keys only, so a page of them may be larger than one of orders.
COUNTING_PAGE = 10_000
# How often a mapping is copied anew that another thread changes meanwhile.
COPIES = 100
# Seconds between two attempts at a restore that is to wait for the endpoint.
RESTORE_PAUSE = 1.0


class Health(NamedTuple):
    """What `OrderStore.health` found."""

    #: Whether the endpoint answered and accepted the token.
    ok: bool
    #: Seconds that the last answer took; None if there was none.
    latency: float | None = None
    #: How many orders Redis holds; None if that is not known.
    orders: int | None = None
    #: What went wrong; None if nothing did.
    error: UpstashError | None = None
    #: How many saves and deletes of this process Redis does not hold yet.
    unsaved: int = 0


class OrderStore:
    """Orders in Redis, for callers who want to know what went wrong.

    Every method raises an `UpstashError` where the function of the same purpose falls back:
    `UnavailableError` when the endpoint could not be asked, `ResponseError` when it refused.

    A save or delete that failed for a reason that can pass is owed: its newest text is kept, and
    sent with the next call that finds the endpoint working. What is owed belongs to the process
    and the database (URL, token and prefix), so that all stores for it know the same.

    Args:
        client: The database.
        prefix: What an order's key begins with.
        ttl: Seconds until a saved order expires. Those who write the same orders must agree on it:
            what expires later counts as saved later.
        skip_unchanged: Seconds for which an order that is byte for byte what this process last
            saved is not sent again; 0 for never. It trades certainty for commands: what another
            writer changed, or Redis evicted, goes unnoticed for that long, or until a read shows
            it.
        catch_up: Whether what failed is owed. If not, it is forgotten.
        background: Seconds for which changes are gathered before a worker thread sends them; 0 to
            send them in the caller's thread.
        restore_wait: Seconds for which `get_all` tries again while the endpoint is unavailable.
        clock: The time of day in seconds.
    """

    def __init__(
        self,
        client: UpstashRedis,
        *,
        prefix: str = "order:",
        ttl: int = 604_800,
        skip_unchanged: float = 0,
        catch_up: bool = True,
        background: float = 0,
        restore_wait: float = 0,
        clock: Callable[[], float] = lambda: time.time(),
    ) -> None:
        self.client = client
        self.prefix = prefix
        self.ttl = ttl
        self._clock = clock
        self._restore_wait = restore_wait
        self._counted: tuple[float, int] | None = None
        self._saver = Saver(
            client,
            prefix,
            ttl=ttl,
            skip=skip_unchanged,
            catch_up=catch_up,
            background=background,
            clock=clock,
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> OrderStore:
        """A store as the environment's UPSTASH_… variables say, as the functions use it.

        Args:
            environ: The variables; `os.environ` when left out.

        Raises:
            MissingCredentialsError: The environment names no database.
            SettingsError: What it names cannot be used.
        """
        # So that no traceback with local variables shows them.
        own, environ = own_variables(environ), None
        settings = Settings(own)
        for complaint in settings.complaints:
            log.warning(complaint)
        return cls.from_settings(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> OrderStore:
        """A store as settings say that have been read and checked."""
        return cls(
            UpstashRedis.from_settings(settings),
            prefix=settings.prefix,
            ttl=settings.ttl,
            skip_unchanged=settings.skip_unchanged,
            catch_up=settings.catch_up,
            background=settings.background,
            restore_wait=settings.restore_wait,
        )

    def __repr__(self) -> str:
        return f"<OrderStore {self.prefix!r} in {self.client!r}>"

    @property
    def unsaved(self) -> tuple[str, ...]:
        """The ids of the orders whose newest save or delete Redis does not hold yet."""
        return tuple(self._order_id(entry.key) for entry in self._saver.book.ledger.unsent())

    def save(self, order_id: str | int, order: Mapping[str, Any]) -> None:
        """Save an order under its id, to expire `ttl` seconds from now. One command.

        Saves of one order from several threads reach Redis in the order of the calls; one that was
        overtaken is not sent, and returns once Redis holds the newer one.

        Args:
            order_id: Any text, or an int, which is stored as its decimal digits.
            order: The order.

        Raises:
            OrderNotSerializableError: JSON cannot hold it. Nothing was sent.
            UpstashError: Redis may not hold it.
        """
        self.deliver(self.note_save(order_id, order))

    def delete(self, order_id: str | int) -> None:
        """Delete an order. It is no error if there is none.

        Raises:
            UpstashError: Redis may still hold it.
        """
        self.deliver(self.note_delete(order_id))

    def note_save(self, order_id: str | int, order: Mapping[str, Any]) -> Ticket | None:
        """Take an order as it is now, without sending it: the first half of `save`.

        Raises:
            OrderNotSerializableError: JSON cannot hold it.
        """
        return self._saver.give(self.key(order_id), serialize_order(order))

    def note_delete(self, order_id: str | int) -> Ticket | None:
        """Note that an order is to be deleted: the first half of `delete`."""
        return self._saver.give(self.key(order_id), None)

    def deliver(self, ticket: Ticket | None) -> None:
        """Send what was noted: the second half of `save` and `delete`."""
        if ticket is not None:
            for error in self._saver.deliver([ticket], alone=True).values():
                raise error

    def get(self, order_id: str | int) -> dict[str, Any] | None:
        """The order of this id, None if there is none. What is owed counts as saved.

        Raises:
            OrderUnreadableError: What is stored under the id is not an order.
            UpstashError: Redis could not be asked, or refused.
        """
        key = self.key(order_id)
        owed = self._saver.book.ledger.newest(key)
        try:
            text = self.client.get(key)
        except UpstashError:
            self._saver.book.worked = None
            if owed is None:
                raise
            text = owed.text
        else:
            self._saver.found(key, text)
            newer = self._saver.catch_up()
            if owed is not None and key not in newer:
                text = owed.text
        return None if text is None else deserialize_order(text)

    def get_all(self) -> dict[str, dict[str, Any]]:
        """All orders by id. Costs about two commands for each 1,000 orders.

        An order that cannot be read is left out and named in the log. What is owed counts as saved.

        Raises:
            RestoreError: Not all could be read; its `__cause__` says why.
        """
        deadline = time.monotonic() + self._restore_wait
        while True:
            try:
                return dict(self.iter_all())
            except RestoreError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not isinstance(error.__cause__, UnavailableError):
                    raise
                time.sleep(min(left, RESTORE_PAUSE))
                # Who waits for the endpoint need not wait for the circuit as well.
                self.client.retry_now()

    def iter_all(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All orders with their ids, like `get_all`, but holding one page of them at a time."""
        owed = {entry.key: entry.text for entry in self._saver.book.ledger.unsent()}
        began = self._clock()
        keys: set[str] = set()
        try:
            for page in self._walk().pages():
                if not keys:
                    for key in self._saver.catch_up():
                        owed.pop(key, None)
                keys.update(key for key, _ in page)
                yield from self._orders(pair for pair in page if pair[0] not in owed)
        except UpstashError as error:
            self._saver.book.worked = None
            raise RestoreError(str(error)) from error
        self._saver.counted(keys, began)
        yield from self._orders((key, text) for key, text in owed.items() if text is not None)

    def iter_texts(self) -> Iterator[list[tuple[str, str]]]:
        """All orders as they are stored, with their ids, a page at a time.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """
        for page in self._walk().pages():
            yield [(self._order_id(key), text) for key, text in page]

    def ping(self) -> None:
        """Ask the endpoint whether it works and accepts the token, and send what is owed.

        Raises:
            UpstashError: It does not.
        """
        self.client.ping()
        self._saver.catch_up()

    def count(self) -> int:
        """How many orders Redis holds. Costs a command for each 10,000 keys of the database.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """
        began = self._clock()
        # A set, since SCAN may give a key twice.
        keys = set(self.client.scan_iter(self._pattern(), COUNTING_PAGE, "string"))
        self._counted = (began, len(keys))
        self._saver.counted(keys, began)
        self._saver.catch_up()
        return len(keys)

    def health(self, *, max_age: float = 60.0) -> Health:
        """Whether the endpoint works, how fast, and how many orders it holds. Does not raise.

        Health checks are polled, and every command is billed. So the count, and that the endpoint
        works, are taken from memory while they are young enough: a check costs nothing when
        there was other traffic lately, else one command. While something is owed, it always asks,
        and what is owed is then sent.

        Args:
            max_age: Seconds for which an answer counts as recent.
        """
        now = self._clock()
        book = self._saver.book
        try:
            if self._counted is None or not 0 <= now - self._counted[0] < max_age:
                self.count()
            elif self.unsaved or not book.worked or not 0 <= now - book.worked.at < max_age:
                self.ping()
        except UpstashError as error:
            book.worked = None
            return Health(ok=False, error=error, unsaved=len(self.unsaved))
        return Health(
            ok=True,
            latency=book.worked.latency if book.worked else None,
            orders=self._counted[1] if self._counted else None,
            unsaved=len(self.unsaved),
        )

    def save_many(self, orders: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Save many orders in few requests. Each request has its time budget.

        All orders of a request are one command, which is billed as one (MSETEX); on an endpoint
        that does not have it, each order is one.

        Args:
            orders: The orders by id. Other threads may go on changing it.

        Returns:
            The ids of the orders that Redis now holds: all of them.

        Raises:
            SaveManyError: Some could not be saved; its `failed` says which and why, its `saved`
                which were. Once the endpoint cannot be asked, no further request is made.
        """
        return self.deliver_many(self.note_many(orders))

    def note_many(self, orders: Mapping[str, Mapping[str, Any]]) -> Noted:
        """Take orders as they are now, without sending them: the first half of `save_many`."""
        noted = Noted({}, {})
        given: dict[str, Mapping[str, Any]] = {}
        for order_id, order in _items(orders):
            try:
                text_id = order_id_text(order_id)
                if text_id in given:
                    raise DataError(f"two orders have the id {shown_order_id(text_id)}")
                given[text_id] = order
            except UpstashError as error:
                noted.failed[str(order_id)] = error
        for order_id, order in given.items():
            try:
                if order_id not in noted.failed:
                    noted.tickets[order_id] = self.note_save(order_id, order)
            except UpstashError as error:
                noted.failed[order_id] = error
        return noted

    def deliver_many(self, noted: Noted) -> list[str]:
        """Send what was noted: the second half of `save_many`."""
        tickets = [ticket for ticket in noted.tickets.values() if ticket is not None]
        failed: dict[str, UpstashError] = dict(noted.failed)
        for key, error in self._saver.deliver(tickets).items():
            failed[self._order_id(key)] = error
        saved = [order_id for order_id in noted.tickets if order_id not in failed]
        if failed:
            raise SaveManyError(saved, failed)
        return saved

    def delete_older_than(self, cutoff: datetime) -> list[str]:
        """Delete the orders whose `created_at` lies before a moment.

        An order without `created_at` is kept. One without a time zone counts as in that of this
        machine. Costs about two commands for each 1,000 orders, and one for each 500 deleted.

        Args:
            cutoff: The moment, with its time zone.

        Returns:
            The ids of the deleted orders.

        Raises:
            RestoreError: Not all orders could be looked at, so none was deleted.
            UpstashError: Redis may still hold some of them. Those are owed.
        """
        old = []
        for order_id, order in self.iter_all():
            created = created_at(order)
            if created is not None and created < cutoff:
                old.append(order_id)
        tickets = [self.note_delete(order_id) for order_id in old]
        for error in self._saver.deliver([ticket for ticket in tickets if ticket]).values():
            raise error
        return old

    def key(self, order_id: str | int) -> str:
        """The key that an order is kept under.

        Raises:
            DataError: The id cannot be sent.
        """
        return self.prefix + order_id_text(order_id)

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is owed, or was noted in background mode, now.

        Args:
            timeout: Seconds that it may take; None for those of one call.

        Returns:
            Whether nothing is left to send. What failed and is not owed does not count.
        """
        return self._saver.flush(timeout)

    def _orders(self, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        pairs = list(texts)
        for (key, _), order in zip(pairs, deserialize_orders([text for _, text in pairs])):
            if isinstance(order, OrderUnreadableError):
                self._log_unreadable(key, order)
            else:
                yield self._order_id(key), order

    def _walk(self) -> Walk:
        return Walk(self.client, self._pattern(), self._log_unreadable)

    def _order_id(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def _pattern(self) -> str:
        return "".join("\\" + c if c in r"\*?[]" else c for c in self.prefix) + "*"

    def _log_unreadable(self, key: str, error: UpstashError) -> None:
        order_id = self._order_id(key)
        log.error(
            "Failed to get order %s from Redis: %s",
            shown_order_id(order_id),
            error,
            extra={"operation": "redis_get_all_orders", "order_id": order_id},
        )


class Noted(NamedTuple):
    """What `OrderStore.note_many` took: tickets and what went wrong, by order id."""

    tickets: dict[str, Ticket | None]
    failed: dict[str, UpstashError]


def created_at(order: Mapping[str, Any]) -> datetime | None:
    """When an order was created; a `created_at` without a time zone is in this machine's."""
    created = order.get("created_at")
    if not isinstance(created, datetime) or created.utcoffset() is not None:
        return created if isinstance(created, datetime) else None
    # Near the first and the last moment that datetime knows, there is no local time.
    with suppress(ArithmeticError, ValueError, OSError):
        return created.astimezone()
    return created.replace(tzinfo=timezone.utc)


def midnight(days_ago: int) -> datetime:
    """0:00 of the day so many days ago, in this machine's time zone.

    Raises:
        DataError: That is not a number of days.
    """
    if not isinstance(days_ago, int) or not 0 <= days_ago < 1_000_000:
        raise DataError(f"days_to_keep must be a whole number from 0, not {days_ago!r}")
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return (today - timedelta(days=days_ago)).astimezone()


def _items(orders: Mapping[Any, Mapping[str, Any]]) -> list[tuple[Any, Mapping[str, Any]]]:
    if not hasattr(orders, "items"):
        raise DataError(f"orders must be a dict of orders by id, not {type(orders).__name__}")
    # list() of a dict's items is one step for other threads; of other mappings it may not be.
    for _ in range(COPIES):
        try:
            return list(orders.items())
        except RuntimeError:
            continue
    return list(orders.items())
