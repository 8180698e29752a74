"""The outbox: for each order, the newest write that Redis has not confirmed.

Every save and delete puts a write into it. The delivery takes writes out, sends them, and reports
what happened. The outbox does no I/O, and its clock is passed in.

    put -> pending -> taken by one sender -> confirmed: it leaves the outbox
                                          -> failed: it stays pending, and is now delayed
                                          -> superseded: another writer wrote the order since

An abandoned attempt may still be executed, for up to a minute. Until its key has been checked after
that minute, the order is *marked* (it has an entry in `_abandoned`), and its newest write stays in
the outbox even when it is confirmed, because it may have to be sent again (`Outbox.due`).

The lock makes this safe for threads. A signal handler, a finalizer or a log handler may also save
an order in the middle of a method here, in the same thread, so every change is one operation that
such a call cannot interrupt (`_replace`, `_remove`, `dict.setdefault`), and no method relies on a
value that it read earlier.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from sys import getsizeof
from typing import NamedTuple

from .errors import UnavailableError, UpstashError

# Seconds for which an abandoned attempt may still be executed. Proxies drop a request 60 s after
# its client has disconnected (AWS ALB, nginx).
LATE = 60.0
# Seconds after which a write counts as delayed even if it never failed. In background mode, the
# seconds for which the worker gathers writes are added.
DELAYED_AFTER = 10.0
# The minimum time, in seconds, to remember the number of a confirmed write. An older save that is
# serialized slowly must not be sent after it.
MEMORY = 600.0
# The number of settled and marked orders at which the old ones are forgotten for the first time.
FORGET = 1000
# Bytes of memory that the outbox may take.
MAX_BYTES = 64_000_000
# The number of digests of abandoned attempts that are remembered for one order.
MAX_DIGESTS = 64
# Seconds until delayed writes are sent again after a failure. Each further failure doubles the
# pause.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
# The digest of a delete. No SHA-1 digest equals it.
DELETED = "-"


class Write:
    """One save or delete of one order.

    Attributes:
        key: The order's key.
        text: The order as JSON, or None for a delete.
        number: Its place among all calls. The newest write of an order has the highest number.
        since: When it was put, or when an older write of the order was confirmed, if that is later.
        ttl: Seconds from `since` until the order expires.
        skip: Seconds for which the same text is not sent again once it is confirmed.
        keep: Whether it stays pending when it fails.
        failures: The number of attempts that failed.
        retry_at: When it may be sent again. Set from the second failure on.
        error: The error of the last attempt; None while the write is waiting or being sent.
        confirmed: Whether Redis acknowledged it.
        superseded: Whether another writer has written the order since.
        size: Bytes in memory.
    """

    __slots__ = (
        "confirmed", "error", "failures", "keep", "key", "number", "retry_at", "since", "size",
        "skip", "superseded", "text", "ttl",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        text: str | None,
        number: int,
        since: float,
        ttl: float,
        skip: float,
        keep: bool,
    ) -> None:
        self.key, self.text, self.number, self.since = key, text, number, since
        self.ttl, self.skip, self.keep = ttl, skip, keep
        self.failures = 0
        self.retry_at = 0.0
        self.error: UpstashError | None = None
        self.confirmed = self.superseded = False
        # In memory, not in UTF-8: an emoji makes each character of a text four bytes wide.
        self.size = getsizeof(key) + getsizeof(text) + 300


class Batch:
    """Writes that one sender has taken. Nobody else sends these orders while it holds the lock.

    Hold the lock in a `with` block: it releases the lock whatever interrupts the sender, whereas
    an interruption can skip statements of a `finally` clause.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread = threading.get_ident()
        #: The writes, by key.
        self.writes: dict[str, Write] = {}
        #: The writes that failed.
        self.failed: list[Write] = []


class Settled:
    """The newest write of a key that is settled: confirmed or superseded.

    Attributes:
        number: Its number. No older write is sent any more.
        at: When it was sent.
        digest: The digest of its text.
        lasts: Seconds from `at` for which the same text is not sent again.
    """

    __slots__ = ("at", "digest", "lasts", "number")

    def __init__(self, number: int, at: float, digest: str = "", lasts: float = 0.0) -> None:
        self.number, self.at, self.digest, self.lasts = number, at, digest, lasts


class Abandoned(NamedTuple):
    """When the last attempt was abandoned, and the digests of all abandoned attempts of a key."""

    at: float
    digests: tuple[str, ...]


class Outbox:
    """The pending writes of one database and prefix.

    Args:
        clock: Returns seconds. It continues while the process is stopped, and never jumps.
        max_bytes: Bytes of memory that the writes may take. The oldest writes are dropped first.
    """

    def __init__(self, clock: Callable[[], float], max_bytes: int = MAX_BYTES) -> None:
        self.clock = clock
        # Reentrant, for calls that interrupt a call in the same thread.
        self.lock = threading.RLock()
        #: Notified when orders are released.
        self.changed = threading.Condition(self.lock)
        #: When the endpoint last answered, and the seconds it took; None after a failure.
        self.answered: tuple[float, float] | None = None
        #: Whether each call must send its own writes, because no worker does.
        self.closed = False
        #: Seconds after which a write counts as delayed even if it never failed.
        self.delayed_after = DELAYED_AFTER
        self._max_bytes = max_bytes
        #: Returns the number for a write. Call it before the order is serialized: the later call
        #: wins.
        self.next_number: Callable[[], int] = itertools.count(1).__next__
        self._writes: dict[str, Write] = {}
        self._size = 0
        self._sending: dict[str, Batch] = {}
        self._settled: dict[str, Settled] = {}
        self._abandoned: dict[str, Abandoned] = {}
        self._forget_at = FORGET
        self._failures, self._not_before = 0, 0.0
        # The number of pending writes that were dropped to save memory, and not reported yet.
        self._dropped = 0
        self._reported = float("-inf")

    def put(
        self,
        key: str,
        text: str | None,
        number: int,
        ttl: float,
        skip: float = 0.0,
        *,
        since: float | None = None,
        keep: bool = True,
    ) -> Write | None:
        """Accept a write.

        Args:
            key: The order's key.
            text: The order as JSON, None for a delete.
            number: What `next_number` returned before the order was serialized.
            ttl: Seconds until it expires.
            skip: Seconds for which the same text is not sent again once it is confirmed.
            since: When the write was put; None for now.
            keep: Whether it stays pending when it fails.

        Returns:
            The write to deliver: this one, or a newer one that is pending. None if Redis already
            holds this text, or a newer write.
        """
        since = self.clock() if since is None else since
        write = Write(key, text, number, since, ttl, skip, keep)
        with self.lock:
            last = self._settled.get(key)
            if last is not None and last.lasts and self._is_unchanged(write, last):
                # An older write that is still being serialized must not undo this one.
                last.number = max(last.number, number)
                return None
            older = self._replace(write)
            if older is not None and older.number > number:
                return older
            self._size += write.size - (older.size if older else 0)
            # After `_replace`, because an interrupting call may have sent a newer write.
            last = self._settled.get(key)
            if last is not None:
                # From now on, until a confirmation, it is uncertain which text Redis holds.
                last.lasts = 0.0
                if last.number > number:
                    self._remove(write)
                    return None
        return write

    def outcome(self, write: Write) -> bool | UpstashError:
        """Return the outcome of a write that this thread is not sending.

        Returns:
            True if Redis holds it, or a newer write of the order. False if it, or a newer one that
            replaced it, has not been sent yet. Otherwise the error.
        """
        with self.lock:
            last, newest = self._settled.get(write.key), self.pending(write.key)
            if write.confirmed or (last is not None and last.number >= write.number):
                return True
            if newest is None:
                return write.error or _dropped("a newer save of the order failed")
            return write.error or newest.error or False

    def pending(self, key: str) -> Write | None:
        """Return the pending write of a key, or None."""
        write = self._writes.get(key)
        return None if write is None or write.confirmed else write

    def all_pending(self) -> list[Write]:
        """Return the pending writes, the oldest first."""
        with self.lock:
            writes = [write for write in list(self._writes.values()) if not write.confirmed]
        return sorted(writes, key=lambda write: write.number)

    def due(self, *, fresh: bool = False, now: bool = False) -> list[Write]:
        """Return the writes to send with other traffic.

        These are the delayed writes, and confirmed writes whose order has been marked for a minute.

        Args:
            fresh: Whether to include writes that are not delayed.
            now: Whether to include writes that are still pausing after a failure.
        """
        time = self.clock()
        with self.lock:
            # Those with the fewest failures first, so that one bad write does not block the others.
            writes = sorted(self._writes.values(), key=lambda write: (write.failures, write.number))
        return [
            write
            for write in writes
            if self.sender(write.key) is None
            and (now or time >= write.retry_at)
            and (
                self._is_past(write.key, time)
                if write.confirmed
                else fresh or self.is_delayed(write)
            )
        ]

    def is_delayed(self, write: Write) -> bool:
        """Return whether another process may have written the order meanwhile.

        It may have if the write has failed before, or has waited for a long time.
        """
        waited = self.clock() - write.since
        return write.failures > 0 or write.confirmed or waited > self.delayed_after

    def is_idle(self) -> bool:
        """Return whether the outbox is empty: nothing is pending or has to be checked."""
        return not self._writes

    def take(self, batch: Batch, writes: Iterable[Write]) -> None:
        """Take the newest writes of these orders, except for orders that are being sent.

        Args:
            batch: Receives the writes. Hold its lock until they are sent, then call `release`.
            writes: Writes of the orders to take.
        """
        with self.lock:
            for write in writes:
                key = write.key
                if self.sender(key) is not None:
                    continue
                self._sending[key] = batch
                newest = self._writes.get(key)
                if newest is None or (newest.confirmed and not self._is_past(key, self.clock())):
                    self._sending.pop(key, None)
                    continue
                newest.error = None
                batch.writes[key] = newest

    def release(self, batch: Batch) -> None:
        """Let others send these orders. Call it after the batch's lock was released."""
        with self.lock:
            for key in batch.writes:
                if self._sending.get(key) is batch:
                    self._sending.pop(key, None)
            try:
                self.changed.notify_all()
            except RuntimeError:
                # eventlet.monkey_patch() has replaced the lock, but not the one in the condition.
                self.changed = threading.Condition(self.lock)

    def sender(self, key: str) -> Batch | None:
        """Return the batch in which an order is being sent, or None."""
        batch = self._sending.get(key)
        return batch if batch is not None and batch.lock.locked() else None

    def confirm(self, write: Write, sent_at: float) -> None:
        """Record that Redis acknowledged a write.

        Args:
            write: The write.
            sent_at: When its request was started.
        """
        key, now = write.key, self.clock()
        with self.lock:
            write.confirmed = True
            self._settled.pop(key, None)
            self._settled[key] = settled = Settled(write.number, sent_at)
            if write.skip and write.text is not None and self._writes.get(key) is write:
                settled.digest = digest_of(write.text)
                # At most half of its remaining lifetime, so that an unchanged order is sent again
                # before it expires.
                settled.lasts = min(write.skip, (write.since + write.ttl - sent_at) / 2)
            if len(self._settled) + len(self._abandoned) >= self._forget_at:
                self._forget_old(now)
            if key not in self._abandoned or self._is_past(key, sent_at):
                self._abandoned.pop(key, None)
                self._remove(write)
            elif {digest_of(write.text)}.issuperset(self.abandoned(key)):
                # The same text does no harm, even late.
                self._remove(write)
            newest = self._writes.get(key)
            if newest is not None and not newest.confirmed:
                # The script treats the write that expires later as the newer one, so a newer write
                # must not expire before this one.
                newest.since = max(newest.since, now)

    def supersede(self, write: Write) -> None:
        """Drop a write, because another writer has written the order since."""
        with self.lock:
            write.superseded = True
            self._settled[write.key] = Settled(write.number, self.clock())
            self._remove(write)

    def checked(self, write: Write) -> None:
        """Record that the key of a marked order was checked, and written again if necessary."""
        with self.lock:
            if self._is_past(write.key, self.clock()):
                self._abandoned.pop(write.key, None)
                self._remove(write)

    def fail(self, write: Write, error: UpstashError, *, for_good: bool = False) -> None:
        """Record that a write, or the check of a marked order, could not be sent.

        Args:
            write: The write.
            error: Why it could not be sent.
            for_good: Whether a retry cannot help.
        """
        with self.lock:
            write.failures += 1
            write.error = error
            if write.failures > 1:
                # No pause after the first failure: the endpoint may work again a moment later.
                write.retry_at = self.clock() + _pause_after(write.failures - 1)
            if (for_good or not write.keep) and not write.confirmed:
                self._remove(write)

    def abandon(self, write: Write) -> None:
        """Record that an attempt to send this write was abandoned, and may still be executed."""
        key, digest = write.key, digest_of(write.text)
        with self.lock:
            marked = self._abandoned.pop(key, None)
            known = [one for one in (marked.digests if marked else ()) if one != digest]
            digests = (*known, digest)[-MAX_DIGESTS:]
            self._abandoned[key] = Abandoned(self.clock(), digests)

    def abandoned(self, key: str) -> tuple[str, ...]:
        """Return the digests of a key's abandoned attempts, which may be executed late."""
        marked = self._abandoned.get(key)
        return marked.digests if marked else ()

    def read(self, key: str, text: str | None) -> None:
        """Record that a key was read. If its text has changed, the next save is not skipped."""
        last = self._settled.get(key)
        if last is not None and last.lasts and last.digest != digest_of(text):
            last.lasts = 0.0

    def listed(self, keys: Collection[str], since: float) -> None:
        """Record that all keys were listed. The next save of a missing key is not skipped.

        Args:
            keys: The keys that Redis holds.
            since: When the listing started.
        """
        with self.lock:
            for key, last in list(self._settled.items()):
                if last.at < since and key not in keys:
                    last.lasts = 0.0

    def pause(self) -> None:
        """Start a pause, twice as long as the last one, after delayed writes could not be sent."""
        self._failures += 1
        self._not_before = self.clock() + _pause_after(self._failures)

    def pause_left(self) -> float:
        """Return the seconds until delayed writes may be sent again; 0 if there is no pause."""
        return max(self._not_before - self.clock(), 0.0)

    def resume(self) -> None:
        """End the pause after delayed writes were sent. The next pause will be short."""
        self._failures, self._not_before = 0, 0.0

    def drop_oldest(self, *, at_end: bool = False) -> int:
        """Drop the oldest writes if all writes together take too much memory.

        Call it when writes are left pending, not when they are put: the orders that a caller is
        about to send are in memory anyway.

        Args:
            at_end: Whether this is the last call.

        Returns:
            The number of pending writes that were dropped since the last report; 0 if that was
            less than a minute ago, so that the log has one line a minute at most.
        """
        if self._size > self._max_bytes:
            with self.lock:
                self._drop()
        now = self.clock()
        if not self._dropped or (now - self._reported < 60 and not at_end):
            return 0
        dropped, self._dropped, self._reported = self._dropped, 0, now
        return dropped

    def forget(self, writes: Iterable[Write]) -> None:
        """Drop these writes, and all marks. Newer writes of the same orders stay."""
        with self.lock:
            for write in writes:
                write.error = _dropped("the client was reset")
                self._remove(write)
            for write in list(self._writes.values()):
                if write.confirmed:
                    self._remove(write)
            self._abandoned.clear()

    def _is_unchanged(self, write: Write, last: Settled) -> bool:
        return (
            self.clock() - last.at < min(write.skip, last.lasts)
            and write.key not in self._writes
            and write.key not in self._abandoned
            and last.digest == digest_of(write.text)
        )

    def _is_past(self, key: str, now: float) -> bool:
        """Return whether no abandoned attempt of a key can be executed any more."""
        marked = self._abandoned.get(key)
        return marked is None or now - marked.at >= LATE

    def _replace(self, write: Write) -> Write | None:
        """Make this the newest write of its key, unless there is a newer one.

        Returns:
            The other write of the key: the replaced one or the newer one, or None.
        """
        writes, key, other = self._writes, write.key, None
        while (current := writes.setdefault(key, write)) is not write:
            other = current
            if current.number > write.number:
                break
            with suppress(KeyError):
                # One line without a call: Python runs no signal handler between the check and the
                # assignment.
                writes[key] = write if writes[key] is current else writes[key]
        return other

    def _remove(self, write: Write) -> None:
        with suppress(KeyError):
            # Not interruptible, as in `_replace`. `pop` removes this write. If the newest write is
            # another one, `get` changes nothing.
            writes, key = self._writes, write.key
            found = (writes.pop if writes[key] is write else writes.get)(key)
            if found is write:
                self._size -= write.size

    def _drop(self) -> None:
        # A write that takes half of the memory is dropped first. Otherwise, it would displace all
        # others.
        order = sorted(
            self._writes.values(), key=lambda one: (one.size < self._max_bytes / 2, one.number)
        )
        self._size = sum(write.size for write in order)
        for write in order:
            # Drop more than necessary, so that not every call has to sort.
            if self._size <= self._max_bytes * 0.95:
                break
            if self.sender(write.key) is None:
                self._remove(write)
                if not write.confirmed:
                    write.error = _dropped("too much is pending")
                    self._dropped += 1

    def _forget_old(self, now: float) -> None:
        for key, last in list(self._settled.items()):
            if now - last.at >= max(MEMORY, last.lasts):
                self._settled.pop(key, None)
        for key in list(self._abandoned):
            if self._is_past(key, now) and key not in self._writes:
                self._abandoned.pop(key, None)
        # Not on every call, to keep the average cost of a write low.
        self._forget_at = 2 * (len(self._settled) + len(self._abandoned)) + FORGET


def _pause_after(failures: int) -> float:
    # Bounded, because a float cannot hold every power of two.
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)


def _dropped(why: str) -> UnavailableError:
    return UnavailableError(f"dropped: {why}", may_have_executed=False)


def digest_of(text: str | None) -> str:
    """Return the SHA-1 of a text in UTF-8, like Redis's `redis.sha1hex`."""
    # Imported here, because loading OpenSSL would take a sixth of the package's import time.
    from hashlib import sha1

    if text is None:
        return DELETED
    return sha1(text.encode(), usedforsecurity=False).hexdigest()
