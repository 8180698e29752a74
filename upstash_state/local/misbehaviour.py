"""Faults that the embedded endpoint simulates, for the tests of apps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from .protocol import Refusal


class Misbehaviour:
    """Latency, errors and limits, the same for all clients. Threads may share it."""

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
        """Set what goes wrong.

        Args:
            latency: Seconds that each request waits before it is executed.
            errors: Share of the requests, from 0 to 1, that get a 503 and are not executed. They
                are the same ones in each run.
            quota: Number of commands until the plan's quota is used up; None for no limit.
            rps: Requests a second; the others get a 429 with Retry-After. None for no limit.
            wait: Waits for a number of seconds.
            clock: Returns seconds since any moment.

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
        # With this seed a share is about right after a few requests. With 0, and 20 %, none of the
        # first 25 failed.
        self._random = random.Random(18512)
        self._lock = threading.Lock()
        self._second = 0.0
        self._requests = 0

    def before_request(self) -> None:
        """Let a request wait, and fail if it is to fail.

        Raises:
            Refusal: The request fails, and must not be executed.
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
        """Return the error text for a command over the quota, None if it may be executed."""
        with self._lock:
            if self._left == 0:
                return f"ERR max requests limit exceeded. Limit: {self._quota}"
            if self._left is not None:
                self._left -= 1
            return None
