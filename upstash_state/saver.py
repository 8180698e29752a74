"""Sends what the ledger holds: in the caller's thread, or in background mode in a worker's."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from logging import getLogger

from .bulk import MOST_COMMANDS, Requests
from .client import UpstashRedis
from .entry import Flight, Ticket, Verdict
from .errors import (
    CircuitOpenError,
    DataError,
    EndpointTimeoutError,
    KeyTooLargeError,
    NotRecordedError,
    RecordTooLargeError,
    RequestTooLargeError,
    UnavailableError,
    UpstashError,
)
from .ledger import LATE, Ledger
from .sender import Sender, size
from .serialization import shown_order_id
from .settings import Secret
from .transport import Success, deadline_within, late_attempts, time_budget
from .worker import Worker

log = getLogger("upstash_state")

# What would fail again, so that keeping it helps nobody.
NOT_OWED = (
    *(DataError, NotRecordedError),
    *(KeyTooLargeError, RecordTooLargeError, RequestTooLargeError),
)
# Seconds before what is owed is tried again that could not be sent between calls that worked; twice
# as many, up to the longest, after each refusal.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
# How many ids a log line names.
NAMED = 20


class Book:
    """One database's ledger, and what those who save there share beside it.

    The lock is held for a few statements at a time, never while something is sent, logged or
    waited for. It may be taken twice: a signal handler may save while the code that it interrupted
    holds it.
    """

    def __init__(self, database: tuple[str, Secret, str], clock: Callable[[], float]) -> None:
        self.database = database
        self.ledger = Ledger(clock)
        self.lock = threading.RLock()
        self.waiters: list[threading.Event] = []
        self.pause = self.not_before = 0.0
        #: When the endpoint last worked, and how fast; None after a failure.
        self.worked: Success | None = None
        self.saver: Saver | None = None


_books: dict[tuple[str, Secret, str], Book] = {}


def forget_all(when: str, *, flush: bool = True) -> None:
    """Forget what this process owes, to all databases.

    Args:
        when: The occasion, for the log line that names what is left.
        flush: Whether to try once to send it, and to name in the log what is left.
    """
    for database, book in list(_books.items()):
        if book.saver is not None:
            if flush:
                book.saver.close(when)
            book.saver.stop()
        _books.pop(database, None)


atexit.register(forget_all, "at exit")
if hasattr(os, "register_at_fork"):
    # What the parent owes is the parent's to send.
    os.register_at_fork(after_in_child=_books.clear)


class Saver:
    """Sends texts to one database, and keeps what could not be sent.

    Args:
        client: The database.
        prefix: What its keys begin with.
        ttl: Seconds until a saved text expires.
        skip: Seconds for which a text that Redis holds is not sent again, 0 for never.
        catch_up: Whether a text that could not be sent is kept.
        background: Seconds for which a worker thread gathers texts before it sends them; 0 to
            send them in the caller's thread.
        clock: The time of day in seconds.
    """

    def __init__(
        self,
        client: UpstashRedis,
        prefix: str,
        *,
        ttl: int,
        skip: float,
        catch_up: bool,
        background: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._database = (*client.database, prefix)
        self._ttl = ttl
        self._skip = skip
        self._catch_up = catch_up
        self._clock = clock
        client.on_circuit_close = self.circuit_closed
        self._worker = Worker(self._work, background) if background else None
        self._sender = Sender(client, ttl, clock)
        self._sets = Requests(MOST_COMMANDS, size)
        self._looks = Requests[Flight](MOST_COMMANDS // 2)

    @property
    def book(self) -> Book:
        book = _books.get(self._database)
        return book or _books.setdefault(self._database, Book(self._database, self._clock))

    def give(self, key: str, text: str | None) -> Ticket | None:
        """Note the newest text of a key, None for a delete.

        Returns:
            What to `deliver`; None when Redis holds just this text.
        """
        book = self.book
        with book.lock:
            book.saver = self
            if self._skip and text is not None and book.ledger.holds(key, text, self._skip):
                return None
            ticket = book.ledger.give(key, text, self._ttl, remember=bool(self._skip))
            dropped = book.ledger.trim()
        if dropped:
            log.error("Too much is owed to Redis - dropped the oldest: %s", self._named(dropped))
        return ticket

    def deliver(self, tickets: Sequence[Ticket], *, alone: bool = False) -> dict[str, UpstashError]:
        """Send texts until Redis holds each, or what is newer. In background mode: wake the worker.

        Args:
            tickets: What to send.
            alone: Whether to send a single command, not a pipeline.

        Returns:
            What went wrong, by key.
        """
        if self._worker is not None and self._wake(self._worker):
            return {}
        failed = {}
        with self.book.lock:
            flights = self._take([ticket.entry.key for ticket in tickets])
        self._send(flights, alone=alone)
        mine = {flight.entry.key: flight for flight in flights}
        for ticket in tickets:
            key = ticket.entry.key
            if ticket.entry.held_version < ticket.version:
                error = self._outcome(ticket, mine.get(key))
                if error is not None:
                    failed[key] = error
        if len(failed) < len(tickets):
            self.catch_up()
        return failed

    def catch_up(self) -> list[str]:
        """Send what is owed, after the endpoint was seen to work. Does not raise.

        In background mode the worker does so.

        Returns:
            The keys of which another writer has saved something newer.
        """
        book, last = self.book, self._client.last_success
        book.worked = Success(self._clock(), last.latency) if last else None
        if book.ledger.idle or time.monotonic() < book.not_before:
            return []
        if self._worker is not None and self._wake(self._worker):
            return []
        try:
            return self._send_owed()[1]
        except Exception:
            # The call that found the endpoint working has succeeded, whatever is wrong here.
            log.exception("Failed to send what is owed")
            return []

    def flush(self, timeout: float | None, *, once: bool = False) -> bool:
        """Send what is unsent, now.

        Args:
            timeout: Seconds that it may take; None for those of one call.
            once: Whether to give up after the first failure.

        Returns:
            Whether nothing is left to send. What failed and is not owed does not count.
        """
        ledger = self.book.ledger
        if ledger.idle:
            return True
        deadline = time.monotonic() + (self._client.timeout if timeout is None else timeout)
        self._client.retry_now()
        pause = 0.05
        while (left := deadline - time.monotonic()) > 0:
            with time_budget(left):
                errors, _ = self._send_owed()
            if (once and errors) or any(not isinstance(e, UnavailableError) for e in errors):
                break
            event = self._event()
            if not ledger.unsent():
                break
            event.wait(min(pause, max(deadline - time.monotonic(), 0)))
            pause *= 2
        return not ledger.unsent()

    def close(self, when: str) -> None:
        """Send what is unsent, once, name in the log what is left, and close the connections."""
        if not self.flush(None, once=True):
            left = [entry.key for entry in self.book.ledger.unsent()]
            log.error("Not saved to Redis %s: %s", when, self._named(left))
        self._client.close()

    def stop(self) -> None:
        """End the worker thread."""
        if self._worker is not None:
            self._worker.stop()

    def circuit_closed(self, seconds: float) -> None:
        """Say for how long the circuit was open, and what became of the saves meanwhile."""
        owed = sum(e.failed_version == e.version for e in self.book.ledger.unsent())
        became = f"{owed} saves and deletes that failed meanwhile are sent now"
        if not owed:
            became = (
                "nothing is owed" if self._catch_up else "what failed meanwhile is not sent again"
            )
        log.warning("Redis endpoint works again after %.0f s - %s", seconds, became)

    def found(self, key: str, text: str | None) -> None:
        """A read found this under a key."""
        with self.book.lock:
            self.book.ledger.found(key, text)

    def counted(self, keys: Collection[str], began: float) -> None:
        """A walk that began then found just these keys."""
        with self.book.lock:
            self.book.ledger.counted(keys, began)

    def _wake(self, worker: Worker) -> bool:
        try:
            worker.wake()
        except RuntimeError:
            # At the end of the interpreter no thread starts, so the caller sends.
            return False
        return True

    def _work(self) -> float | None:
        try:
            errors, _ = self._send_owed()
        except Exception:
            log.exception("Failed to send in the background")
            return LONGEST_PAUSE
        if not errors:
            return None if self.book.ledger.idle else LATE
        if not isinstance(errors[0], UnavailableError) or not errors[0].reported:
            log.error("Failed to save %d orders to Redis: %s", len(errors), errors[0])
        waits = [error.retry_in for error in errors if isinstance(error, CircuitOpenError)]
        return max([self.book.pause, *waits])

    def _send_owed(self) -> tuple[list[UpstashError], list[str]]:
        """Send all that is unsent, and look at what is uncertain: what failed, what is dropped."""
        book = self.book
        if book.lock._is_owned():  # type: ignore[attr-defined]
            # By a signal handler that saves while what it interrupted changes the ledger: an order
            # may have its new version already, and its old text still.
            return [], []
        with book.lock:
            flights = self._take(None)
        if not flights:
            return [], []
        again = [flight for flight in flights if flight.look]
        with time_budget(self._client.timeout):
            send, dropped = self._look(again)
            self._send([flight for flight in flights if not flight.look] + send)
        errors = [error for flight in flights if (error := flight.error) is not None]
        with book.lock:
            refused = any(not isinstance(error, UnavailableError) for error in errors)
            longer = min(book.pause * 2, LONGEST_PAUSE) if refused else 0.0
            book.pause = max(longer, FIRST_PAUSE) if errors else 0.0
            book.not_before = time.monotonic() + book.pause
        made_up = sum(flight.error is None for flight in send)
        if made_up:
            log.info("Redis now holds %d orders whose save or delete had failed before", made_up)
        return errors, dropped

    def _look(self, flights: list[Flight]) -> tuple[list[Flight], list[str]]:
        """Look at keys before their texts are sent again: which to send, and which not."""
        send, dropped = [], []
        for flight, found in self._looks.run(flights, self._sender.look):
            if isinstance(found, UpstashError):
                self._failed(flight, found, late=False)
                continue
            with self.book.lock:
                verdict = self.book.ledger.judge(flight, *found)
                if verdict is Verdict.HELD:
                    self.book.ledger.landed(flight)
                elif verdict is Verdict.DROP:
                    self.book.ledger.superseded(flight)
            if verdict is Verdict.SEND:
                send.append(flight)
            elif verdict is Verdict.DROP:
                dropped.append(flight.entry.key)
        if dropped:
            log.info("Saved later by another writer, so not sent: %s", self._named(dropped))
        return send, dropped

    def _send(self, flights: list[Flight], *, alone: bool = False) -> None:
        try:
            for flight, error in self._sets.run(flights, partial(self._request, alone=alone)):
                if error is not None:
                    late = isinstance(error, UnavailableError) and error.may_have_executed
                    self._failed(flight, error, late=late)
        finally:
            # An interruption, such as Ctrl-C, leaves some without a result.
            for flight in flights:
                if flight.entry.flight is flight:
                    self._failed(flight, UnavailableError("the call was interrupted"), late=True)

    def _request(self, flights: list[Flight], *, alone: bool) -> list[UpstashError | None]:
        """Send some texts in one request: the error of each, or None once Redis holds it."""
        book = self.book
        with book.lock:
            # What has been given a newer text meanwhile is not sent.
            current = [flight for flight in flights if book.ledger.renew(flight, self._lease)]
        with late_attempts() as late:
            errors = self._sender.send(current, alone=alone) if current else []
        by_flight = dict(zip(current, errors))
        with book.lock:
            for flight, error in by_flight.items():
                if error is None:
                    book.ledger.landed(flight, late=bool(late))
        self._notify()
        return [by_flight.get(flight) for flight in flights]

    def _failed(self, flight: Flight, error: UpstashError, *, late: bool) -> None:
        owed = self._catch_up and not isinstance(error, NOT_OWED)
        with self.book.lock:
            self.book.worked = None
            self.book.ledger.failed(flight, error, owed=owed, late=late)
        self._notify()

    def _outcome(self, ticket: Ticket, mine: Flight | None) -> UpstashError | None:
        """Wait until a text, or a newer one, is held or has failed."""
        entry = ticket.entry
        deadline = deadline_within(self._client.timeout)
        while True:
            with self.book.lock:
                if entry.held_version >= ticket.version:
                    return None
                if entry.failed_version >= ticket.version:
                    return (mine and mine.error) or entry.error
                sender = self.book.ledger.sender(entry)
                # Who has failed leaves the newer text to those who were given it.
                flights = [] if sender or (mine and mine.error) else self._take([entry.key])
                event = self._event()
            if flights:
                self._send(flights)
                continue
            if sender is None and self.book.ledger.newest(entry.key) is not entry:
                return UnavailableError("dropped: too much was owed, or the client was reset")
            left = deadline - time.monotonic()
            if left <= 0 or (sender and sender.owner == threading.get_ident()):
                break
            event.wait(left)
        if mine and mine.error:
            return mine.error
        return EndpointTimeoutError("not sent yet: an earlier save of the order is under way")

    def _take(self, keys: Iterable[str] | None) -> list[Flight]:
        return self.book.ledger.take(keys, threading.get_ident(), self._lease)

    @property
    def _lease(self) -> float:
        return 2 * self._client.timeout + 1

    def _event(self) -> threading.Event:
        event = threading.Event()
        self.book.waiters.append(event)
        return event

    def _notify(self) -> None:
        book = self.book
        if book.waiters:
            with book.lock:
                waiters, book.waiters = book.waiters, []
            for event in waiters:
                event.set()

    def _named(self, keys: Sequence[str]) -> str:
        ids = [shown_order_id(key.removeprefix(self._prefix)) for key in keys[:NAMED]]
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        return f"{', '.join(ids)}{more}"
