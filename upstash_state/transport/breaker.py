"""When to leave an endpoint alone that is down. Pure: the clock is passed in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from logging import getLogger

from ..errors import CircuitOpenError

log = getLogger("upstash_state")

FAILURES_TO_OPEN = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0


class Breaker:
    """Counts failures in a row; after three, refuses calls for a while, then lets one probe.

    The states are those of the circuit breaker in Michael Nygard's "Release It!": closed (calls
    pass), open (calls are refused until a moment), half-open (one call probes, the rest are
    refused). A probe is a lease: it moves that moment by the time that it has, so one that is
    interrupted, and never heard of again, makes way for another.

    Args:
        clock: Returns seconds that only ever grow; `time.monotonic` when left out.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())
        # Handlers of signals and of log records call in again, in the same thread.
        self._lock = threading.RLock()
        self._failures = 0
        self._pause = self._opened_at = 0.0
        self._open_until: float | None = None

    def enter(self, lease: float) -> bool:
        """Ask to make a call.

        Args:
            lease: The seconds that the call may take.

        Returns:
            Whether this call is the probe.

        Raises:
            CircuitOpenError: The endpoint is left alone for now.
        """
        if self._open_until is None:
            return False
        with self._lock:
            if self._open_until is None:
                return False
            now = self._clock()
            if now < self._open_until:
                raise CircuitOpenError(self._open_until - now)
            self._open_until = now + lease
            return True

    def retry_now(self) -> None:
        """Let the next call probe, without waiting for the pause to end."""
        with self._lock:
            if self._open_until is not None:
                self._open_until = self._clock()

    def succeeded(self) -> float | None:
        """The endpoint works: it answered, be it with a refusal.

        Returns:
            The seconds for which the circuit was open, if this closed it.
        """
        if not self._failures and self._open_until is None:
            return None
        with self._lock:
            was_open = self._open_until is not None
            self._failures, self._pause, self._open_until = 0, 0.0, None
        return self._clock() - self._opened_at if was_open else None

    def failed(self, cause: BaseException, *, probe: bool) -> None:
        """The endpoint could not be reached or did not work."""
        with self._lock:
            self._failures += 1
            opens = self._failures >= FAILURES_TO_OPEN and self._open_until is None
            # A call that was already under way when the circuit opened says nothing new.
            if opens or probe:
                now = self._clock()
                self._opened_at = now if opens else self._opened_at
                self._pause = pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                self._open_until = now + pause
        if opens:
            text = "Redis endpoint failed %d calls in a row - not asked again for %.0f s: %s"
            log.error(text, FAILURES_TO_OPEN, pause, cause)

    def abandoned(self, *, probe: bool) -> None:
        """The call ended without news of the endpoint, so another may probe in its place."""
        with self._lock:
            if probe and self._open_until is not None:
                self._open_until = self._clock()
