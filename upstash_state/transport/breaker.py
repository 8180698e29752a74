"""Circuit breaker: leaves an endpoint alone while it is down. It does no I/O."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import CircuitOpenError
from ..logs import log

FAILURES_TO_OPEN = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0


class Breaker:
    """Counts failures in a row. After three, it refuses calls for a while, then lets one probe.

    The states are those of the circuit breaker in Michael Nygard's "Release It!": closed (calls
    pass), open (calls are refused), half-open (one call probes, the others are refused). A probe
    has a lease for the time that it may take, so another call can probe after an interrupted one.

    Args:
        clock: Returns seconds that only grow, `time.monotonic` by default.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())
        # Reentrant, because handlers of signals and log records may make calls in the same thread.
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
            CircuitOpenError: The circuit is open.
        """
        with self._lock:
            if self._open_until is None:
                return False
            now = self._clock()
            if now < self._open_until:
                raise CircuitOpenError(self._open_until - now)
            self._open_until = now + lease
            return True

    def retry_now(self) -> None:
        """Let the next call probe, without waiting for the end of the pause or of a probe."""
        with self._lock:
            if self._open_until is not None:
                self._open_until = self._clock()

    def succeeded(self) -> None:
        """Close the circuit: the endpoint answered, if only with a refusal."""
        with self._lock:
            was_open = self._open_until is not None
            self._failures, self._pause, self._open_until = 0, 0.0, None
        if was_open:
            text = "Redis endpoint works again after %.0f s - calls are sent as before"
            log.warning(text, self._clock() - self._opened_at)

    def failed(self, cause: BaseException, *, probe: bool) -> None:
        """Count a failure: the endpoint could not be reached or did not work.

        Args:
            cause: Why.
            probe: Whether the call was the probe.
        """
        with self._lock:
            self._failures += 1
            opens = self._failures >= FAILURES_TO_OPEN and self._open_until is None
            # Calls that started before the circuit opened say nothing new.
            if opens or probe:
                now = self._clock()
                self._opened_at = now if opens else self._opened_at
                self._pause = pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                self._open_until = now + pause
        if opens:
            text = "Redis endpoint failed %d calls in a row - not asked again for %.0f s: %s"
            log.error(text, FAILURES_TO_OPEN, pause, cause)
