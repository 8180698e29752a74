"""The walk over all stored values: SCAN and MGET in step, each page's SCAN with the MGET before."""

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
from .transport import COMMAND, PIPELINE

T = TypeVar("T")

# Redis looks at so many keys for one page. A page of orders of a few KB each stays well below the
# 10 MB that an answer may have.
PAGE = 1000
# How many keys one MGET may have: a page may be larger than asked for (documentation of SCAN).
MOST = 10 * PAGE
# How many TYPE commands one request may have.
MOST_TYPES = 500
TOO_LARGE = (RequestTooLargeError, AnswerTooLargeError)


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Start some work in a thread, within the time budget of this one.

    Returns:
        A function that waits for the result, and returns or raises it. It does the work itself
        where no thread could be started, or where a fork has lost it.
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
        exchange: Sends commands in one request with this path, and returns each one's result or
            error.
        pattern: A glob that the keys match.
        on_unreadable: Called with a key and the error, for a value that cannot be read.
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
        # How many keys one MGET may have; fewer, once an answer was too large.
        self._most = MOST
        self._unreadable: set[str] = set()

    def pages(self) -> Iterator[list[tuple[str, str]]]:
        """Yield keys and values, a page at a time, while a thread fetches the next one.

        No more than two pages are in memory, and no key comes twice.

        Raises:
            UpstashError: The walk could not go on.
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
            # Redis returns a key twice when it rehashes meanwhile (documentation of SCAN).
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
        """Read the values of a page, and the keys of the page at a cursor, if there is one."""
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
        """Read values, in halves where an answer is too large.

        Args:
            keys: Their keys.
            got: What MGET answered, or its error; None if it was not sent yet.
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
            # No order is larger than this client's own limit: the endpoint has gone wrong.
            raise got
        return got or []

    def _explain(self, keys: list[str], page: list[tuple[str, str]]) -> None:
        """Find out why keys have no value: they have expired since, or hold another type.

        Args:
            keys: The keys.
            page: Those of the same page that have one.
        """
        keys = [key for key in keys if key not in self._unreadable]
        for start in range(0, len(keys), MOST_TYPES):
            some = keys[start : start + MOST_TYPES]
            types = [commands.execute_command("TYPE", key) for key in some]
            for key, found in zip(some, self._exchange(types, PIPELINE)):
                if found == "string" and not page:
                    raise AnswerError("MGET was answered with null for a key that holds a string")
                if isinstance(found, str) and found not in ("none", "string"):
                    self._skip(key, WrongTypeError(f"the key holds a {found}, not a string"))

    def _skip(self, key: str, error: UpstashError) -> None:
        self._unreadable.add(key)
        self._on_unreadable(key, error)
