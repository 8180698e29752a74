"""The walk over all stored values: SCAN and MGET in step, each page's SCAN with the MGET before."""

from __future__ import annotations

from .commands import Cursors
from .errors import AnswerTooLargeError, RequestTooLargeError, UpstashError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .client import UpstashRedis

# Redis looks at so many keys for one page. A page of orders of a few KB each stays well below the
# 10 MB that an answer may have.
PAGE = 1000

TOO_LARGE = (RequestTooLargeError, AnswerTooLargeError)


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
        # How many keys one MGET asks for; halved when the answer was over the limit.
        self._most: int | None = None

    def pages(self) -> Iterator[list[tuple[str, str]]]:
        """Keys and values, a page at a time. Holds no more than one page; no key comes twice.

        Raises:
            UpstashError: The walk could not go on.
        """
        seen: set[str] = set()
        cursors = Cursors()
        cursor, found = self._scan(0)
        while True:
            # Redis gives a key twice when it rehashes under way (documentation of SCAN).
            keys = [key for key in dict.fromkeys(found) if key not in seen]
            seen.update(keys)
            if not cursors.lead_on(cursor):
                yield _present(keys, self._values(keys))
                return
            if keys:
                values, (cursor, found) = self._values_and_page(keys, cursor)
                yield _present(keys, values)
            else:
                cursor, found = self._scan(cursor)

    def _scan(self, cursor: int) -> tuple[int, list[str]]:
        return self._client.scan(cursor, match=self._pattern, count=PAGE, _type="string")

    def _values_and_page(
        self, keys: list[str], cursor: int
    ) -> tuple[list[str | None], tuple[int, list[str]]]:
        first = len(keys) - (self._most or len(keys))
        values = self._values(keys[:first]) if first > 0 else []
        last = keys[max(first, 0) :]
        pipeline = self._client.pipeline(transaction=False)
        pipeline.mget(last).scan(cursor, match=self._pattern, count=PAGE, _type="string")
        try:
            got, page = pipeline.execute(raise_on_error=False)
        except TOO_LARGE as error:
            got, page = error, self._scan(cursor)
        if isinstance(page, UpstashError):
            raise page
        if isinstance(got, TOO_LARGE):
            got = self._halved(last, got)
        elif isinstance(got, UpstashError):
            raise got
        return values + got, page

    def _values(self, keys: list[str]) -> list[str | None]:
        values: list[str | None] = []
        while keys:
            batch, keys = keys[: self._most], keys[len(keys[: self._most]) :]
            try:
                values += self._client.mget(batch)
            except TOO_LARGE as error:
                values += self._halved(batch, error)
        return values

    def _halved(self, keys: list[str], error: UpstashError) -> list[str | None]:
        if len(keys) > 1:
            self._most = min(self._most or len(keys), len(keys) // 2)
            return self._values(keys)
        if isinstance(error, AnswerTooLargeError):
            # No order is that large: the endpoint has gone wrong, not the order.
            raise error
        self._on_unreadable(keys[0], error)
        return [None]


def _present(keys: list[str], values: list[str | None]) -> list[tuple[str, str]]:
    # None: it expired under way, or is of another type.
    return [(key, value) for key, value in zip(keys, values) if value is not None]
