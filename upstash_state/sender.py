"""What the saver sends, as commands: texts and deletes, and the looks at their keys before."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Any

from .bulk import set_size
from .client import UpstashRedis
from .entry import Flight
from .errors import AnswerError, UnavailableError, UpstashError
from .pipeline import Pipeline


def size(flight: Flight) -> int:
    """At most so many bytes of a request's body."""
    return set_size(flight.entry.key, flight.text or "")


class Sender:
    """Makes requests of texts.

    Args:
        client: The database.
        ttl: Seconds until a text expires that is sent in time.
        clock: The time of day in seconds.
    """

    def __init__(self, client: UpstashRedis, ttl: int, clock: Callable[[], float]) -> None:
        self._client = client
        self._ttl = ttl
        self._clock = clock
        # Whether the endpoint takes several texts in one command, None until that was tried.
        self._together: bool | None = None

    def look(self, flights: list[Flight]) -> list[tuple[str | None, float] | UpstashError]:
        """What stands under the keys, and the seconds until it expires: infinite if it never does.

        Raises:
            UpstashError: The request failed as a whole.
        """
        pipeline = self._client.pipeline(transaction=False)
        for flight in flights:
            pipeline.pttl(flight.entry.key).get(flight.entry.key)
        results = pipeline.execute(raise_on_error=False)
        found: list[tuple[str | None, float] | UpstashError] = []
        for pttl, text in zip(results[::2], results[1::2]):
            error = next((one for one in (pttl, text) if isinstance(one, UpstashError)), None)
            found.append(error or (text, inf if pttl == -1 else pttl / 1000))
        return found

    def send(self, flights: list[Flight], *, alone: bool) -> list[UpstashError | None]:
        """Send texts in one request, in as few commands as can be, since each is billed.

        Args:
            flights: The texts.
            alone: Whether to send a single one as a command, not as a pipeline.

        Returns:
            The error of each, or None once Redis holds it.

        Raises:
            UpstashError: The request failed as a whole.
        """
        if alone and len(flights) == 1:
            return [_error(self._command(self._client, flights))]
        groups = self._groups(flights)
        grouped = len(groups) < len(flights)
        try:
            errors = self._execute(groups)
        except UnavailableError as error:
            # Some servers answer a command that they do not know with a 500.
            if not grouped or self._together or error.reason not in ("status", "answer"):
                raise
            errors = dict.fromkeys(flights, error)
        if grouped and not any(errors.values()):
            self._together = True
        elif grouped:
            # The server has no MSETEX, or one text is to blame for all.
            errors = self._execute([[flight] for flight in flights])
            self._together = any(errors.values())
        return [errors[flight] for flight in flights]

    def _groups(self, flights: list[Flight]) -> list[list[Flight]]:
        """Which texts one command can send: all deletes, and all saves with the same expiry."""
        groups: dict[object, list[Flight]] = {}
        for flight in flights:
            delete = flight.text is None
            apart = self._together is False or (flight.look and not delete)
            groups.setdefault(flight if apart else delete, []).append(flight)
        return list(groups.values())

    def _execute(self, groups: list[list[Flight]]) -> dict[Flight, UpstashError | None]:
        pipeline = self._client.pipeline(transaction=False)
        for group in groups:
            self._command(pipeline, group)
        results = pipeline.execute(raise_on_error=False)
        return {
            flight: _error(result) for group, result in zip(groups, results) for flight in group
        }

    def _command(self, target: UpstashRedis | Pipeline, group: list[Flight]) -> Any:
        # Expiry and value in one command, so that no order is ever without an expiry (Redis's
        # documentation of SET). Sent twice, it leaves the same.
        texts = {flight.entry.key: flight.text for flight in group if flight.text is not None}
        if not texts:
            return target.delete(*(flight.entry.key for flight in group))
        if len(texts) > 1:
            return target.msetex(texts, ex=self._ttl)
        ((key, text),) = texts.items()
        if not group[0].look:
            return target.set(key, text, ex=self._ttl)
        # What is sent late expires as if it had been sent in time: by the expiry, other processes
        # tell what is newer.
        lives = group[0].entry.expires_at - self._clock()
        return target.set(key, text, px=max(1, ceil(lives * 1000)))


def _error(result: Any) -> UpstashError | None:
    if result is None:
        return AnswerError("SET was answered with null, like one with NX")
    return result if isinstance(result, UpstashError) else None
