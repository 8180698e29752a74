"""What the embedded endpoint does wrong on purpose, for people's own tests."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from .protocol import Refusal


class Misbehaviour:
    """Latency, errors and limits, the same for all who ask. May be called from many threads."""

    def __init__(
        self,
        *,
        latency: float = 0.0,
        errors: float = 0.0,
        quota: int | None = None,
        rps: int | None = None,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Decide what goes wrong.

        Args:
            latency: Seconds that every request waits before anything is done.
            errors: Share of the requests, from 0 to 1, that get a 503 and are not executed. Which
                ones is the same in each run.
            quota: Commands that are executed until the plan's quota is used up; None for no limit.
            rps: Requests in any one second; those beyond get a 429 with Retry-After. None for no
                limit.
            wait: Waits so many seconds.
            clock: Seconds, from any start.

        Raises:
            ValueError: A number is out of its range.
        """
        waits = 0 <= latency <= threading.TIMEOUT_MAX
        if not waits or not 0 <= errors <= 1 or (quota or 0) < 0 or (rps is not None and rps < 1):
            raise ValueError("latency and quota are at least 0, errors 0 to 1, rps at least 1")
        self._latency = latency
        self._errors = errors
        self._quota = self._left = quota
        self._rps = rps
        self._wait = wait
        self._clock = clock
        # Chosen so that a share is about right from the first few requests on: with 0, and 20 %,
        # none of the first 25 failed.
        self._random = random.Random(18512)
        self._lock = threading.Lock()
        self._second = 0.0
        self._requests = 0

    def before_request(self) -> None:
        """Let a request wait or fail.

        Raises:
            Refusal: It fails, and nothing of it may be executed.
        """
        if self._latency:
            self._wait(self._latency)
        with self._lock:
            fails = self._random.random() < self._errors
            now = self._clock()
            if now - self._second >= 1:
                self._second, self._requests = now, 0
            self._requests += 1
            too_many = self._rps is not None and self._requests > self._rps
        if too_many:
            raise Refusal("ERR too many requests", HTTPStatus.TOO_MANY_REQUESTS)
        if fails:
            raise Refusal("ERR failed on purpose", HTTPStatus.SERVICE_UNAVAILABLE)

    def refuse_command(self) -> str | None:
        """The error text for a command when the quota is used up, None while it may be executed."""
        with self._lock:
            if self._left == 0:
                return f"ERR max requests limit exceeded. Limit: {self._quota}"
            if self._left is not None:
                self._left -= 1
            return None
