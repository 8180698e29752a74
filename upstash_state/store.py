"""OrderStore: orders in Redis, with their keys, expiry, restore and health check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, NamedTuple, TypeVar

from . import commands, registry
from .client import UpstashRedis
from .commands import Command
from .delivery import Delivery, turn
from .errors import (
    DataError,
    OrderUnreadableError,
    RestoreError,
    SaveManyError,
    UnavailableError,
    UpstashError,
)
from .logs import log
from .outbox import Outbox, Write
from .restore import Walk
from .serialization import (
    deserialize_order,
    deserialize_orders,
    order_id_text,
    serialize_order,
    shown_order_id,
)
from .settings import Settings, check_option, own_variables
from .texts import type_name
from .transport import COMMAND, deadline_within

T = TypeVar("T")


def boot_clock() -> Callable[[], float]:
    """Return a clock that is independent of changes to the wall clock.

    It continues while the process is stopped. If the platform has CLOCK_BOOTTIME
    (clock_gettime(2)), it also continues while the machine sleeps.
    """
    try:
        clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        clock()
    except (AttributeError, OSError):
        # macOS and Windows lack it. Pyodide has the name, but not the clock.
        return time.monotonic
    return clock


boot_time = boot_clock()

# Counting needs the keys only, so a page of them may be larger than one of orders.
COUNTING_PAGE = 10_000
# Attempts to copy a dict while other threads change it.
COPIES = 100
# Seconds between two attempts of a restore that waits for the endpoint.
RESTORE_PAUSE = 1.0


class Health(NamedTuple):
    """The result of `OrderStore.health`."""

    #: Whether the endpoint answered and accepted the token.
    ok: bool
    #: Seconds that the last answer took; None if the check failed.
    latency: float | None = None
    #: The number of orders that Redis holds; None if it is not known.
    orders: int | None = None
    #: The error of the check; None if it succeeded.
    error: UpstashError | None = None
    #: The number of pending saves and deletes of this process.
    unsaved: int = 0
    #: Seconds for which the oldest of them has been pending.
    unsaved_for: float = 0.0


class OrderStore:
    """Orders in Redis, for callers who want to know what went wrong.

    Where the function for the same purpose falls back, a method raises an `UpstashError`:
    `UnavailableError` when the endpoint could not be asked, `ResponseError` when it refused.

    A save or delete that fails stays pending, unless a retry cannot help. The newest one of each
    order is sent with the next call that finds the endpoint working. Pending writes belong to the
    process and the database (URL, token and prefix), so all stores for that database share them.

    Args:
        client: The client of the database.
        prefix: The beginning of an order's key.
        ttl: Seconds until a saved order expires. All writers of the same orders must use the same
            TTL: an order that expires later was saved later.
        skip_unchanged: Seconds for which an order whose text has not changed since this process
            saved it is not sent again; 0 to always send it. This saves commands at the cost of
            certainty: a change by another writer, or an eviction, goes unnoticed for that long, or
            until a read or a count shows it.
        catch_up: Whether writes that failed stay pending. If False, they are dropped.
        background: Seconds for which a worker thread gathers changes before it sends them; 0 to
            send them in the caller's thread.
        restore_wait: Seconds for which `get_all` tries again while the endpoint is unavailable.
        clock: Returns seconds. It continues while the process is stopped, and never jumps.

    Raises:
        SettingsError: An argument has a wrong type or value.
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
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self.client = client
        self.prefix: str = check_option("prefix", prefix)
        self.ttl: int = check_option("ttl", ttl)
        self._skip = check_option("skip_unchanged", skip_unchanged)
        self._catch_up = check_option("catch_up", catch_up)
        self._background = check_option("background", background)
        self._restore_wait = check_option("restore_wait", restore_wait)
        self._clock = clock
        self._database = (*client.database, prefix)
        self._counted: tuple[float, int] | None = None
        self._own: Delivery
        self._registry: object = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> OrderStore:
        """Return a store with the settings of the environment, as the functions use them.

        Args:
            environ: The variables; None for `os.environ`.

        Raises:
            MissingCredentialsError: The URL or the token is not set.
            SettingsError: The URL or the token cannot be used.
        """
        # No traceback with local variables may show the variables.
        own, environ = own_variables(environ), None
        settings = Settings(own)
        for complaint in settings.complaints:
            log.warning(complaint)
        return cls.from_settings(settings)

    @classmethod
    def from_settings(cls, settings: Settings) -> OrderStore:
        """Return a store with these settings."""
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
        """The ids of the orders with a pending save or delete."""
        return tuple(self._order_id(write.key) for write in self._outbox.all_pending())

    def save(self, order_id: str | int, order: Mapping[str, Any]) -> None:
        """Save an order. It expires `ttl` seconds from now. Costs one command.

        Saves of one order from several threads reach Redis in the order of the calls. If a newer
        save overtakes this one, this one is not sent; it returns once Redis holds the newer one.

        Args:
            order_id: Any text, or an int, which is stored as its decimal digits.
            order: The order.

        Raises:
            OrderNotSerializableError: JSON cannot hold the order. Nothing was sent.
            UpstashError: Redis may not hold the order.
        """
        with turn():
            self.accept(order_id, order)()

    def delete(self, order_id: str | int) -> None:
        """Delete an order. It is not an error if there is no such order.

        Raises:
            UpstashError: Redis may still hold the order.
        """
        with turn():
            self.accept_delete(order_id)()

    def accept(self, order_id: str | int, order: Mapping[str, Any]) -> Callable[[], None]:
        """Accept a save without sending it.

        Returns:
            The function that sends it, within the client's timeout from now. It raises like `save`.

        Raises:
            OrderNotSerializableError: JSON cannot hold the order.
        """
        return self._accept(order_id, partial(serialize_order, order))

    def accept_delete(self, order_id: str | int) -> Callable[[], None]:
        """Accept a delete without sending it. Return the function that sends it, like `accept`."""
        return self._accept(order_id, None)

    def save_many(self, orders: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Save many orders in few requests. Each request may take the client's timeout.

        One command (MSETEX) saves all orders of a request. An endpoint without MSETEX gets one
        command for each order.

        Args:
            orders: The orders by id. Other threads may change the dict during the call.

        Returns:
            The ids of the orders that Redis now holds: all of them.

        Raises:
            SaveManyError: Some orders could not be saved. Its `failed` says which and why, its
                `saved` names the others. After a request that fails, no further request is sent.
        """
        with turn():
            return self.accept_many(orders)()

    def accept_many(self, orders: Mapping[str, Mapping[str, Any]]) -> Callable[[], list[str]]:
        """Accept orders without sending them. Return the function that sends them."""
        own, writes = self._delivery, []
        accepted: dict[str, None] = {}
        refused: dict[str, UpstashError] = {}
        for order_id, order in _items(orders):
            try:
                key = self.key(order_id)
                # Of two ids with the same text, such as 5 and "5", the last one wins.
                writes += self._put(own, key, partial(serialize_order, order))
                accepted[self._order_id(key)] = None
            except UpstashError as error:
                refused[shown_order_id(order_id)] = error

        def send() -> list[str]:
            errors = own.deliver(writes)
            failed = refused | {self._order_id(key): error for key, error in errors.items()}
            saved = [order_id for order_id in accepted if order_id not in failed]
            if failed:
                raise SaveManyError(saved, failed)
            return saved

        return send

    def get(self, order_id: str | int) -> dict[str, Any] | None:
        """Return the order with this id, or None. A pending write counts as done.

        Raises:
            OrderUnreadableError: The stored value is not an order.
            UpstashError: Redis could not be asked, or refused.
        """
        key, deadline, outbox = self.key(order_id), self._deadline(), self._outbox
        pending = outbox.pending(key)
        try:
            text = self._ask(commands.get(key), deadline)
        except UpstashError:
            if pending is None:
                raise
            text = pending.text
        else:
            outbox.read(key, text)
            self._delivery.catch_up(deadline)
            if pending is not None and not pending.superseded:
                text = pending.text
        return None if text is None else deserialize_order(text)

    def get_all(self) -> dict[str, dict[str, Any]]:
        """Return all orders by id. Costs about two commands for each 1,000 orders.

        An unreadable order is left out, and the log names it. Pending writes count as done.

        Raises:
            RestoreError: Not all orders could be read; its `__cause__` says why.
        """
        deadline = deadline_within(self._restore_wait)
        while True:
            try:
                return dict(self.iter_all())
            except RestoreError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not isinstance(error.__cause__, UnavailableError):
                    raise
                time.sleep(min(left, RESTORE_PAUSE))
                # Without this call, the restore would also wait for the circuit to close.
                self.client.retry_now()

    def iter_all(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield all orders with their ids, like `get_all`, but page by page to save memory."""
        outbox = self._outbox
        pending = {write.key: write for write in outbox.all_pending()}
        began = self._clock()
        keys: set[str] = set()
        try:
            for page in self._walk().pages():
                if not keys:
                    self._delivery.catch_up()
                for key, text in page:
                    keys.add(key)
                    outbox.read(key, text)
                yield from self._orders(
                    (key, text)
                    for key, text in page
                    if key not in pending or pending[key].superseded
                )
        except UpstashError as error:
            raise RestoreError(str(error)) from error
        outbox.listed(keys, began)
        yield from self._orders(
            (write.key, write.text)
            for write in pending.values()
            if write.text is not None and not write.superseded
        )

    def iter_texts(self) -> Iterator[list[tuple[str, str]]]:
        """Yield the ids and stored texts of all orders, page by page.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """
        for page in self._walk().pages():
            yield [(self._order_id(key), text) for key, text in page]

    def ping(self) -> None:
        """Check that the endpoint works and accepts the token, and send delayed writes.

        Raises:
            UpstashError: The endpoint does not work, or refused.
        """
        deadline = self._deadline()
        self._ask(commands.ping(), deadline)
        self._delivery.catch_up(deadline)

    def count(self) -> int:
        """Return the number of orders. Costs one command for each 10,000 keys of the database.

        Raises:
            UpstashError: Redis could not be asked, or refused.
        """
        began, deadline = self._clock(), self._deadline()
        # A set, because SCAN may return a key twice.
        keys: set[str] = set()
        cursors, cursor, more = commands.Cursors(COUNTING_PAGE), 0, True
        while more:
            scan = commands.scan(cursor, self._pattern(), COUNTING_PAGE, "string")
            cursor, page = self._ask(scan, deadline)
            keys.update(page)
            more = cursors.lead_on(cursor, page)
        self._counted = (began, len(keys))
        self._outbox.listed(keys, began)
        self._delivery.catch_up(deadline)
        return len(keys)

    def health(self, *, max_age: float = 60.0) -> Health:
        """Return whether the endpoint works, how fast it is, and how many orders it holds.

        It does not raise. Apps call it often and every command is billed, so it remembers the last
        count and the last answer. If both are recent, it sends nothing; if only the count is, it
        sends one PING. While a write is pending, it always sends a PING, and then delayed writes.

        Args:
            max_age: Seconds for which a count or an answer counts as recent.
        """
        now, outbox = self._clock(), self._outbox
        error: UpstashError | None = None
        try:
            if self.unsaved or outbox.due():
                # Before the count, which has to include what this sends.
                self.ping()
            if self._counted is None or now - self._counted[0] >= max_age:
                self.count()
            elif not outbox.answered or now - outbox.answered[0] >= max_age:
                self.ping()
        except UpstashError as one:
            error = one
        pending = outbox.all_pending()
        return Health(
            ok=error is None,
            latency=outbox.answered[1] if outbox.answered and error is None else None,
            orders=self._counted[1] if self._counted and error is None else None,
            error=error,
            unsaved=len(pending),
            unsaved_for=self._clock() - pending[0].since if pending else 0.0,
        )

    def delete_older_than(self, cutoff: datetime) -> list[str]:
        """Delete the orders whose `created_at` is before a moment.

        A `created_at` without a time zone is in this machine's time zone. An order without
        `created_at` is kept, and so is one that this process saves again during the call. Costs
        about two commands for each 1,000 orders, and one for each 500 deleted.

        Args:
            cutoff: The moment, with its time zone.

        Returns:
            The ids of the deleted orders.

        Raises:
            RestoreError: Not all orders could be read, so no order was deleted.
            UpstashError: Redis may still hold some of them. Their deletes are pending.
        """
        own, began = self._delivery, self._clock()
        # The deletes get the number of this moment, so that later saves of the same orders win.
        number = own.outbox.next_number()
        old = []
        for order_id, order in self.iter_all():
            created = created_at(order)
            if created is not None and created < cutoff:
                old.append(order_id)
        writes: list[Write] = []
        for order_id in old:
            writes += self._put(own, self.key(order_id), None, number, began)
        # Later saves of the same orders are sent by their own callers.
        writes = [write for write in writes if write.number == number]
        _deliver(own, writes, None)
        return [self._order_id(write.key) for write in writes]

    def key(self, order_id: str | int) -> str:
        """Return the key of an order.

        Raises:
            DataError: The id cannot be sent.
        """
        return self.prefix + order_id_text(order_id)

    def flush(self, timeout: float | None = None) -> bool:
        """Send all pending writes now.

        Args:
            timeout: Seconds that it may take; None for the client's timeout.

        Returns:
            Whether nothing is pending.

        Raises:
            DataError: `timeout` is not a number of seconds.
        """
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout == timeout):
            raise DataError(f"timeout must be a number of seconds or None, not {timeout!r:.40}")
        return self._delivery.flush(timeout)

    @property
    def _delivery(self) -> Delivery:
        if self._registry is not registry.deliveries:
            current, own = registry.deliveries, self._new_delivery(Outbox(self._clock))
            shared = registry.register(self._database, own)
            if shared is not own:
                own = self._new_delivery(shared.outbox)
                if self.client.timeout > shared.client.timeout:
                    # At exit, the pending orders of all stores get the longest of their timeouts.
                    current[self._database] = own
            self._own = own
            self._registry = current
        return self._own

    def _new_delivery(self, outbox: Outbox) -> Delivery:
        return Delivery(outbox, self.client, self.prefix, self._background)

    @property
    def _outbox(self) -> Outbox:
        return self._delivery.outbox

    def _accept(
        self, order_id: str | int, serialize: Callable[[], str] | None
    ) -> Callable[[], None]:
        own, deadline = self._delivery, self._deadline()
        return partial(_deliver, own, self._put(own, self.key(order_id), serialize), deadline)

    def _put(
        self,
        own: Delivery,
        key: str,
        serialize: Callable[[], str] | None,
        number: int | None = None,
        since: float | None = None,
    ) -> list[Write]:
        """Put a save, or a delete for None, into the outbox.

        Returns:
            The write to send, or an empty list if there is none.
        """
        number = own.outbox.next_number() if number is None else number
        text = serialize() if serialize else None
        write = own.outbox.put(
            key, text, number, self.ttl, self._skip, since=since, keep=self._catch_up
        )
        return [] if write is None else [write]

    def _deadline(self) -> float:
        return deadline_within(self.client.timeout)

    def _ask(self, command: Command[T], deadline: float | None = None) -> T:
        result: T = self._exchange([command], COMMAND, deadline)[0]
        return result

    def _exchange(
        self, commands: Sequence[Command[Any]], path: str, deadline: float | None = None
    ) -> list[Any]:
        outbox = self._outbox
        try:
            exchange = self.client.exchange(commands, path=path, deadline=deadline)
        except UpstashError:
            outbox.answered = None
            raise
        outbox.answered = (self._clock(), exchange.latency)
        return exchange.results

    def _orders(self, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        pairs = list(texts)
        for (key, _), order in zip(pairs, deserialize_orders([text for _, text in pairs])):
            if isinstance(order, OrderUnreadableError):
                self._log_unreadable(key, order)
            else:
                yield self._order_id(key), order

    def _walk(self) -> Walk:
        return Walk(self._exchange, self._pattern(), self._log_unreadable)

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
            extra={"operation": "redis_get_all_orders", "order_id": shown_order_id(order_id)},
        )


def _deliver(own: Delivery, writes: Sequence[Write], deadline: float | None) -> None:
    for error in own.deliver(writes, deadline).values():
        # A copy: the outbox keeps the error, but not its frames, which hold the order.
        raise copy(error) from error.__cause__


def created_at(order: Mapping[str, Any]) -> datetime | None:
    """Return when an order was created. Without a time zone, it is in this machine's."""
    created = order.get("created_at")
    if not isinstance(created, datetime) or created.utcoffset() is not None:
        return created if isinstance(created, datetime) else None
    # Near the limits of datetime, the conversion to local time fails.
    with suppress(ArithmeticError, ValueError, OSError):
        return created.astimezone()
    return created.replace(tzinfo=timezone.utc)


def midnight(days_ago: int) -> datetime:
    """Return 0:00 of the day `days_ago` days ago, in this machine's time zone.

    Raises:
        DataError: `days_ago` is not a number of days.
    """
    if not isinstance(days_ago, int) or not 0 <= days_ago < 100_000:
        raise DataError(f"days_to_keep must be a whole number, 0 or more, not {days_ago!r}")
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return (today - timedelta(days=days_ago)).astimezone()


def _items(orders: Mapping[Any, Mapping[str, Any]]) -> list[tuple[Any, Mapping[str, Any]]]:
    if not hasattr(orders, "items"):
        raise DataError(f"orders must be a dict of orders by id, not {type_name(orders)}")
    # Other threads cannot change a dict during list(). They may change other mappings, and list()
    # then raises RuntimeError.
    for _ in range(COPIES):
        try:
            return list(orders.items())
        except RuntimeError:
            continue
    return list(orders.items())
