"""Read all stored values: one request has the MGET of a page and the SCAN for the next page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from . import commands
from .commands import Command, Cursors
from .errors import (
    AnswerError,
    AnswerTooLargeError,
    RequestTooLargeError,
    UpstashError,
    WrongTypeError,
)
from .texts import shown
from .transport import COMMAND, PIPELINE

T = TypeVar("T")

# The number of keys that Redis checks for one page. With orders of a few KB each, a page stays well
# below the limit for an answer (10 MB).
PAGE = 1000
# The largest number of keys in one MGET. A page of SCAN may have more keys than asked for
# (documentation of SCAN).
MOST = 10 * PAGE
# The largest number of TYPE commands in one request.
MOST_TYPES = 500
TOO_LARGE = (RequestTooLargeError, AnswerTooLargeError)


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Start work in a thread, within the caller's time budget.

    Returns:
        A function that waits for the result, and returns or raises it. It does the work itself if
        no thread could be started, or if a fork has ended the thread.
    """
    from concurrent.futures import Future

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(
        target=copy_context().run, args=(run,), name="upstash_state restore", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        return work

    def result() -> T:
        thread.join()
        return future.result() if future.done() else work()

    return result


class Walk:
    """One walk over the values whose keys match a pattern.

    Args:
        exchange: Sends commands in one request to a path, and returns the result or error of each.
        pattern: The pattern of the keys, as for SCAN.
        on_unreadable: Called with the key and the error of each value that cannot be read.
    """

    def __init__(
        self,
        exchange: Callable[[Sequence[Command[Any]], str], list[Any]],
        pattern: str,
        on_unreadable: Callable[[str, UpstashError], None],
    ) -> None:
        self._exchange = exchange
        self._pattern = pattern
        self._on_unreadable = on_unreadable
        # The largest number of keys in one MGET. It shrinks when an answer is too large.
        self._most = MOST
        self._unreadable: set[str] = set()

    def pages(self) -> Iterator[list[tuple[str, str]]]:
        """Yield keys and values page by page, while a thread reads the next page.

        At most two pages are in memory, and no key comes twice.

        Raises:
            UpstashError: A page could not be read.
        """
        seen: set[str] = set()
        cursors = Cursors(PAGE)
        last = False
        keys: list[str] = []
        values, (cursor, found) = self._step([], 0)
        while True:
            page = [(key, value) for key, value in zip(keys, values) if value is not None]
            if len(page) < len(keys):
                self._explain([key for key, value in zip(keys, values) if value is None], page)
            if last:
                yield page
                return
            # SCAN may return a key twice when Redis rehashes meanwhile (documentation of SCAN).
            keys = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(keys)
            last = not cursors.lead_on(cursor, found)
            step = partial(self._step, keys, None if last else cursor)
            following = begun(step) if page else step
            if page:
                yield page
            values, (cursor, found) = following()

    def _step(
        self, keys: list[str], cursor: int | None
    ) -> tuple[list[str | None], tuple[int, list[str]]]:
        """Read the values of a page, and the keys of the next page unless `cursor` is None."""
        if cursor is None:
            return self._values(keys), (0, [])
        scan = commands.scan(cursor, match=self._pattern, count=PAGE)
        if not keys:
            return [], self._alone(scan)
        if len(keys) > self._most:
            return self._values(keys), self._alone(scan)
        try:
            got, page = self._exchange([commands.mget(keys), scan], PIPELINE)
        except TOO_LARGE as error:
            got, page = error, self._alone(scan)
        if isinstance(page, UpstashError):
            raise page
        return self._values(keys, got), page

    def _alone(self, command: Command[T]) -> T:
        result: T = self._exchange([command], COMMAND)[0]
        return result

    def _values(self, keys: list[str], got: Any = None) -> list[str | None]:
        """Return the values of keys. Read them in halves if an answer is too large.

        Args:
            keys: The keys.
            got: The result of MGET, or its error; None if it was not sent yet.
        """
        if got is None and len(keys) > self._most:
            got = TOO_LARGE[0]("more keys than one request may have")
        elif got is None and keys:
            try:
                got = self._alone(commands.mget(keys))
            except TOO_LARGE as error:
                got = error
        if isinstance(got, TOO_LARGE) and len(keys) > 1:
            half = len(keys) // 2
            self._most = min(self._most, half)
            return self._values(keys[:half]) + self._values(keys[half:])
        if isinstance(got, RequestTooLargeError):
            self._skip(keys[0], got)
            return [None]
        if isinstance(got, UpstashError):
            # Not an order's fault: no single order is larger than the limit of this client.
            raise got
        return got or []

    def _explain(self, keys: list[str], page: list[tuple[str, str]]) -> None:
        """Find out why keys have no value: they have expired since, or hold another type.

        Args:
            keys: The keys without a value.
            page: The keys and values of the same page.

        Raises:
            AnswerError: MGET has returned no value at all, although a key holds a string.
        """
        keys = [key for key in keys if key not in self._unreadable]
        for start in range(0, len(keys), MOST_TYPES):
            some = keys[start : start + MOST_TYPES]
            types = [commands.execute_command("TYPE", key) for key in some]
            for key, found in zip(some, self._exchange(types, PIPELINE)):
                if found == "string" and not page:
                    raise AnswerError("MGET was answered with null for a key that holds a string")
                if isinstance(found, str) and found not in ("none", "string"):
                    self._skip(
                        key, WrongTypeError(f"the key holds a {shown(found, 40)}, not a string")
                    )

    def _skip(self, key: str, error: UpstashError) -> None:
        self._unreadable.add(key)
        self._on_unreadable(key, error)
