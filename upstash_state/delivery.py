"""The delivery: takes writes out of the outbox, sends them, and reports the results to it.

No other code sends writes. `deliver` sends the writes of a call, `catch_up` sends delayed writes
after a call that succeeded, the worker sends all writes in background mode, and `flush` sends all
writes at the end of a process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from traceback import walk_stack

from . import registry
from .client import UpstashRedis
from .errors import (
    CircuitOpenError,
    DataError,
    EndpointTimeoutError,
    NoPermissionError,
    ResponseError,
    UnavailableError,
    UpstashError,
)
from .logs import NAMED, log, log_unsaved, named, plural
from .outbox import DELAYED_AFTER, LATE, Batch, Outbox, Write
from .transport import COMMAND, PIPELINE, deadline_within, one_by_one
from .worker import Worker
from .writes import MAX_WRITES, PERMANENT, TOO_LARGE, Part, page_of, parts_of, settle

COMBINED = frozenset({"MSETEX", "EVAL"})
# Seconds between two checks whether another task of the same thread has sent a write.
SHORT = 0.01

# Seconds until a command of COMBINED is tried again after the endpoint refused it as unknown.
TRY_AGAIN = 3600.0
# The same, after a failure that may have another cause.
DOUBT = 60.0
# Seconds between two tries of `flush`.
SHORTEST, LONGEST = 0.05, 0.5
# The number of pages that must succeed before a slow endpoint gets larger ones.
STEADY = 32

# Held while saves are sent one by one, for recordings.
_turn = threading.RLock()


def turn() -> AbstractContextManager[object]:
    """Return a context manager for a save: a lock if saves are sent one by one, otherwise empty."""
    return _turn if one_by_one() else nullcontext()


class Delivery:
    """Send the writes of one outbox.

    Args:
        outbox: The outbox.
        client: The client of the database.
        prefix: The beginning of an order's key, which log lines leave out.
        background: Seconds for which a worker thread gathers writes before it sends them; 0 to
            send them in the caller's thread.
    """

    def __init__(
        self, outbox: Outbox, client: UpstashRedis, prefix: str, background: float = 0.0
    ) -> None:
        self.outbox = outbox
        self.client = client
        self._prefix = prefix
        self._worker = Worker(self._work, background) if background else None
        outbox.delayed_after = max(outbox.delayed_after, DELAYED_AFTER + background)
        # The largest number of writes in the next page; 0 if even a page of one write failed.
        self._page = MAX_WRITES
        # The number of pages that succeeded since this size changed.
        self._succeeded = 0
        # The commands of COMBINED that the endpoint has executed, those that it seems to lack, and
        # when to try these again.
        self._known: set[str] = set()
        self._missing: set[str] = set()
        self._try_again = 0.0

    def deliver(
        self, writes: Sequence[Write], deadline: float | None = None
    ) -> dict[str, UpstashError]:
        """Send writes, and wait until Redis holds each one, or a newer one.

        In background mode, the worker sends them later.

        Args:
            writes: Writes that `Outbox.put` returned.
            deadline: When to stop, on `time.monotonic()`'s clock. None gives each request the
                client's timeout.

        Returns:
            The errors by key.
        """
        outbox, failed = self.outbox, dict[str, UpstashError]()
        later = self._wake()
        waiting = [] if later else list(writes)
        while waiting:
            rest = waiting[:]
            while rest:
                page = page_of(rest, outbox)
                del rest[: len(page)]
                batch = self._send(page, deadline)
                if batch.failed and (error := self._stop(batch)) is not None:
                    # The rest is not sent now. It is delayed until the endpoint works again.
                    for write in rest:
                        outbox.fail(write, error)
                    break
            waiting = [write for write in waiting if not write.confirmed]
            if not waiting:
                break
            # Others are sending these orders, or have sent them.
            in_time = self._wait(waiting, deadline)
            outcomes = {write: outbox.outcome(write) for write in waiting}
            waiting = [write for write, outcome in outcomes.items() if outcome is False]
            if not in_time:
                outcomes.update(dict.fromkeys(waiting, self._late(waiting)))
                waiting = []
            failed |= {w.key: o for w, o in outcomes.items() if isinstance(o, UpstashError)}
        if not outbox.is_idle():
            if not later and len(failed) < len(writes):
                self.catch_up(deadline)
            self._drop_oldest()
        return failed

    def _wait(self, writes: Sequence[Write], deadline: float | None) -> bool:
        """Wait for another sender of one of these orders. Return False if that takes too long."""
        outbox = self.outbox
        busy = next((write.key for write in writes if outbox.sender(write.key)), "")
        deadline = self._deadline(deadline)
        with outbox.lock:
            while (sender := outbox.sender(busy)) is not None:
                left = deadline - time.monotonic()
                # A signal handler must not wait for the save that it interrupted.
                if left <= 0 or _is_within(sender):
                    return False
                self._rest(left, SHORT)
        return True

    def _late(self, writes: Sequence[Write]) -> UpstashError:
        """Give up waiting: leave the writes pending, and return the error for their caller."""
        error = EndpointTimeoutError("not sent yet: an earlier save of the order is under way")
        for write in writes:
            if self.outbox.pending(write.key) is write:
                self.outbox.fail(write, error)
        return error

    def _rest(self, seconds: float, step: float) -> None:
        """Wait until orders are released, or for some seconds. Hold the outbox's lock.

        Args:
            seconds: The longest time.
            step: The longest sleep where no other thread can notify this one (Pyodide).
        """
        if threading.active_count() == 1:
            # In Pyodide, other tasks go on during a sleep, but not while it waits for a lock.
            time.sleep(min(seconds, step))
        else:
            self.outbox.changed.wait(seconds)

    def catch_up(self, deadline: float | None = None) -> None:
        """Send delayed writes, after a call found the endpoint working. Does not raise.

        Args:
            deadline: When to stop, on `time.monotonic()`'s clock; None for the client's timeout
                from now.
        """
        if self.outbox.is_idle() or self.outbox.pause_left() or self._wake():
            return
        try:
            self._send_due(deadline, fresh=False)
        except Exception:
            # The call that found the endpoint working has succeeded, so an error here must not
            # make it fail.
            log.exception("Failed to send delayed writes to Redis")

    def flush(self, timeout: float | None = None, *, once: bool = False) -> bool:
        """Send all pending writes now.

        Args:
            timeout: Seconds that it may take; None for the client's timeout.
            once: Whether to stop when the endpoint cannot be reached.

        Returns:
            Whether nothing is pending.
        """
        outbox = self.outbox
        deadline = deadline_within(self.client.timeout if timeout is None else timeout)
        pause = SHORTEST
        # With nothing pending, only orders that were marked for a minute are left to check.
        while (outbox.all_pending() or outbox.due()) and (left := deadline - time.monotonic()) > 0:
            self.client.retry_now()
            error = self._send_due(deadline, fresh=True, now=True)
            if isinstance(error, UnavailableError):
                # A bad status may concern only these orders, so the others are tried.
                stop = once and error.reason not in ("status", "answer")
            else:
                # After a refused page, the next one is half as large.
                stop = error is not None and not self._page
            if stop:
                break
            pause = SHORTEST if error is None else min(2 * pause, LONGEST)
            # Another thread may be sending. If not, the endpoint gets a moment to recover.
            with outbox.lock:
                if outbox.all_pending():
                    self._rest(min(pause, left), pause)
        return not outbox.all_pending()

    def close(self, when: str) -> None:
        """Send all pending writes, log the orders that are left, and close the connections.

        Args:
            when: The occasion, for the log line.
        """
        self.outbox.forget(self.send_all(when, once=True))
        self.client.close()

    def send_all(self, when: str, *, once: bool = False) -> list[Write]:
        """Send all pending writes within one timeout, and log the orders that are left.

        Args:
            when: The occasion, for the log line.
            once: Whether to stop when the endpoint cannot be reached.

        Returns:
            The writes that are left.
        """
        try:
            self.flush(once=once)
        finally:
            # Even after Ctrl-C, the log names the orders that are left.
            left = self.outbox.all_pending()
            self._log_left(when, left)
        self._drop_oldest(at_end=True)
        return left

    def _wake(self) -> bool:
        """Let the worker send, if there is one. Return whether it will."""
        if self._worker is None or self.outbox.closed or one_by_one() or registry.is_ending():
            return False
        return self._worker.wake()

    def _work(self) -> float | None:
        """Send all due writes. Return the seconds until the worker calls this again, or None."""
        outbox = self.outbox
        if outbox.pause_left():
            return outbox.pause_left()
        error = self._send_due(None, fresh=True)
        if isinstance(error, CircuitOpenError):
            return max(error.retry_in, outbox.pause_left())
        if error is not None:
            return outbox.pause_left()
        return None if outbox.is_idle() else 0.0 if outbox.due(fresh=True) else LATE

    def _send_due(
        self, deadline: float | None, *, fresh: bool, now: bool = False
    ) -> UpstashError | None:
        """Send due writes page by page, until all are sent, a page fails, or time is up."""
        outbox, deadline = self.outbox, self._deadline(deadline)
        caught_up = 0
        took = 0.0
        error: UpstashError | None = None
        due: list[Write] = []
        # A page that cannot end in time would be executed and billed, but not confirmed.
        while error is None and (begin := time.monotonic()) + took < deadline:
            due = due or outbox.due(fresh=fresh, now=now)
            page = page_of(due, outbox, max(self._page, 1))
            del due[: len(page)]
            failing = [write for write in page if write.failures and not write.confirmed]
            batch = self._send(page, deadline)
            if not batch.writes:
                if due:
                    continue
                break
            took = time.monotonic() - begin
            caught_up += sum(write.confirmed for write in failing)
            error = self._stop(batch)
            if error is not None:
                # Half a page may succeed, if one order causes the failure or the endpoint is slow.
                self._page, self._succeeded = len(batch.writes) // 2, 0
                outbox.pause()
            else:
                outbox.resume()
                self._succeeded += 1
                # A slow endpoint may be as slow for a smaller page.
                if took < self.client.timeout / 2 or self._succeeded >= STEADY:
                    self._page, self._succeeded = min(max(self._page, 1) * 2, MAX_WRITES), 0
            self._log_failed(batch.failed)
        if caught_up:
            log.info("Redis now holds %s whose save or delete had failed before", plural(caught_up))
        return error

    def _stop(self, batch: Batch) -> UpstashError | None:
        """Return why to stop after this batch: the error if all its writes failed, or None."""
        if len(batch.failed) < len(batch.writes):
            return None
        # An error of the order itself says nothing about the others.
        errors = [write.error for write in batch.failed]
        return next((error for error in errors if error and not isinstance(error, PERMANENT)), None)

    def _send(self, writes: Sequence[Write], deadline: float | None) -> Batch:
        """Take writes, send them in one request, and report the results to the outbox."""
        batch = Batch()
        try:
            with batch.lock:
                self.outbox.take(batch, writes)
                if batch.writes:
                    batch.failed = self._exchange([*batch.writes.values()], deadline)
        finally:
            self.outbox.release(batch)
        superseded = [write for write in batch.writes.values() if write.superseded]
        if superseded:
            log.warning("Saved later by another writer, so not sent: %s", self._named(superseded))
        return batch

    def _exchange(
        self, writes: list[Write], deadline: float | None, missing: frozenset[str] = frozenset()
    ) -> list[Write]:
        """Send writes that were taken, and return those that failed."""
        outbox, sent_at = self.outbox, self.outbox.clock()
        failed: list[Write] = []
        for write in writes[:]:
            if write.since + write.ttl <= sent_at:
                writes.remove(write)
                if write.confirmed:
                    outbox.checked(write)
                else:
                    outbox.fail(write, DataError("it would have expired by now"), for_good=True)
                    failed.append(write)
        if not writes:
            return failed
        if sent_at >= self._try_again:
            self._missing.clear()
        parts = parts_of(writes, outbox, missing or self._missing)
        # `save_many` always sends a pipeline, even if only one of its orders has changed.
        path = COMMAND if len(writes) == 1 and deadline is not None else PIPELINE
        results: Sequence[object]
        try:
            exchange = self.client.exchange(
                [part.command for part in parts], path=path, deadline=deadline
            )
            results, abandoned = exchange.results, exchange.abandoned
            outbox.answered = (outbox.clock(), exchange.latency)
        except UpstashError as error:
            # Without its traceback, whose frames hold the orders.
            results = [error.with_traceback(None)] * len(parts)
            abandoned = error.may_have_executed
            outbox.answered = None
            if isinstance(error, TOO_LARGE):
                # The request as a whole was too large, so all its writes are halved together.
                parts = [Part(parts[0].command, writes)]
        except BaseException:
            interrupted = UnavailableError("the call was interrupted")
            for write in writes:
                outbox.abandon(write)
                outbox.fail(write, interrupted)
            raise
        if abandoned:
            for write in writes:
                outbox.abandon(write)
        for part, result in zip(parts, results):
            name = part.command.args[0]
            if isinstance(result, TOO_LARGE) and len(part.writes) > 1:
                half = len(part.writes) // 2
                for some in (part.writes[:half], part.writes[half:]):
                    failed += self._exchange(some, deadline, missing)
            elif name in COMBINED and self._may_be_unknown(name, result):
                failures = self._exchange(part.writes, deadline, COMBINED)
                if not failures and name not in self._known:
                    self._missing.add(name)
                    refused = isinstance(result, ResponseError)
                    self._try_again = sent_at + (TRY_AGAIN if refused else DOUBT)
                failed += failures
            else:
                if name in COMBINED and not isinstance(result, UpstashError):
                    self._known.add(name)
                failed += settle(part, result, outbox, sent_at)
        return failed

    def _may_be_unknown(self, name: str, result: object) -> bool:
        """Return whether single commands may succeed where a combined one failed."""
        known = name in self._known
        if known and name == "EVAL":
            return False
        if isinstance(result, UnavailableError):
            # Some servers answer an unknown command with status 404 or 500. In that case, EVAL is
            # not replaced by plain commands, because they would overwrite later saves of others.
            return not known and name == "MSETEX" and result.reason in ("status", "answer")
        # Redis uses the code ERR for an unknown command. Other codes, such as OOM, mean that it
        # knows the command.
        code = str(result).partition(" ")[0]
        return (not known and isinstance(result, NoPermissionError)) or (
            type(result) is ResponseError and (code == "ERR" or not code.isupper())
        )

    def _deadline(self, deadline: float | None) -> float:
        return deadline_within(self.client.timeout) if deadline is None else deadline

    def _drop_oldest(self, *, at_end: bool = False) -> None:
        if dropped := self.outbox.drop_oldest(at_end=at_end):
            log.error("Too much is pending - dropped the oldest: %s", plural(dropped))

    def _log_left(self, when: str, writes: Sequence[Write]) -> None:
        """Log all orders that are left, because nothing else names them in a long outage."""
        for template, deleted in (
            ("Not saved to Redis %s: %s", False),
            ("Not deleted from Redis %s: %s", True),
        ):
            some = [write for write in writes if (write.text is None) == deleted]
            for start in range(0, len(some), NAMED):
                log.error(template, when, self._named(some[start : start + NAMED]))

    def _log_failed(self, writes: Sequence[Write]) -> None:
        """Log writes whose callers have returned: at the first failure, and when dropped."""
        told = [
            write
            for write in writes
            if not write.confirmed
            and (write.failures == 1 or self.outbox.pending(write.key) is None)
        ]
        for deleted in (False, True):
            some = [write for write in told if (write.text is None) == deleted]
            log_unsaved({self._order_id(w): w.error for w in some if w.error}, deleted=deleted)

    def _named(self, writes: Sequence[Write]) -> str:
        return named([self._order_id(write) for write in writes])

    def _order_id(self, write: Write) -> str:
        return write.key.removeprefix(self._prefix)


def _is_within(sender: Batch) -> bool:
    """Return whether this code runs in a handler that interrupted the sending of a batch."""
    if sender.thread != threading.get_ident():
        return False
    # "batch" is a local variable of `Delivery._send`.
    return any(frame.f_locals.get("batch") is sender for frame, _ in walk_stack(None))
