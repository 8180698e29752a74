"""The walk over all stored values: SCAN and MGET in step, each page's SCAN with the MGET before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from .bulk import TOO_LARGE, Requests
from .client import UpstashRedis
from .commands import Cursors
from .errors import AnswerError, AnswerTooLargeError, ResponseError, UpstashError

T = TypeVar("T")

# Redis looks at so many keys for one page. A page of orders of a few KB each stays well below the
# 10 MB that an answer may have.
PAGE = 1000
# How many keys one MGET may have: a page may be larger than asked for (documentation of SCAN).
MOST = 10 * PAGE


def begun(work: Callable[[], T]) -> Callable[[], T]:
    """Let a thread do some work, within the time budget of this one.

    Returns:
        What waits for the result, and gives or raises it. It does the work itself where no thread
        could be started, or where a fork has lost it.
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
    """One walk over the string values whose keys match a pattern.

    Args:
        client: Where to read.
        pattern: A glob that the keys match.
        on_unreadable: Called with a key and the error, for a value that is too large to be read.
    """

    def __init__(
        self,
        client: UpstashRedis,
        pattern: str,
        on_unreadable: Callable[[str, UpstashError], None],
    ) -> None:
        self._client = client
        self._pattern = pattern
        self._on_unreadable = on_unreadable
        self._mgets = Requests[str](MOST, grows=False)

    def pages(self) -> Iterator[list[tuple[str, str]]]:
        """Keys and values, a page at a time, while a thread fetches the next one.

        Holds no more than two pages; no key comes twice.

        Raises:
            UpstashError: The walk could not go on.
        """
        seen: set[str] = set()
        cursors = Cursors(PAGE)
        last = False
        keys: list[str] = []
        values, (cursor, found) = self._step([], 0)
        while True:
            page = self._present(keys, values)
            if last:
                yield page
                return
            # Redis gives a key twice when it rehashes under way (documentation of SCAN).
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
        """The values of a page, and the keys of the page at a cursor; None: there is none."""
        if cursor is None:
            return self._values(keys), (0, [])
        if not keys:
            return [], self._scan(cursor)
        return self._values_and_page(keys, cursor)

    def _scan(self, cursor: int) -> tuple[int, list[str]]:
        return self._client.scan(cursor, match=self._pattern, count=PAGE, _type="string")

    def _values_and_page(
        self, keys: list[str], cursor: int
    ) -> tuple[list[str | None], tuple[int, list[str]]]:
        if len(keys) > self._mgets.now:
            return self._values(keys), self._scan(cursor)
        pipeline = self._client.pipeline(transaction=False).mget(keys)
        pipeline.scan(cursor, match=self._pattern, count=PAGE, _type="string")
        try:
            got, page = pipeline.execute(raise_on_error=False)
        except TOO_LARGE as error:
            got, page = error, self._scan(cursor)
        if isinstance(page, UpstashError):
            raise page
        if isinstance(got, TOO_LARGE):
            got = self._values(keys)
        elif isinstance(got, UpstashError):
            raise got
        return got, page

    def _values(self, keys: list[str]) -> list[str | None]:
        values: dict[str, str | None] = {}
        for key, value in self._mgets.run(keys, self._client.mget):
            if isinstance(value, TOO_LARGE) and not isinstance(value, AnswerTooLargeError):
                self._on_unreadable(key, value)
            elif isinstance(value, UpstashError):
                # No order is larger than this client's own limit: the endpoint has gone wrong.
                raise value
            else:
                values[key] = value
        return [values.get(key) for key in keys]

    def _present(self, keys: list[str], values: list[str | None]) -> list[tuple[str, str]]:
        # None: it expired under way, or is of another type.
        stored = [(key, value) for key, value in zip(keys, values) if value is not None]
        if keys and not stored:
            self._check(keys[0])
        return stored

    def _check(self, key: str) -> None:
        """Tell keys that are gone from a server whose MGET finds nothing."""
        try:
            there = self._client.get(key) is not None
        except ResponseError:
            return
        if there:
            raise AnswerError("MGET was answered with null for a key that GET finds")
