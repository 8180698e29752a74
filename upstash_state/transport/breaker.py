"""When to leave an endpoint alone that is down. Pure: the clock is passed in."""

from __future__ import annotations

from logging import getLogger
from threading import Lock
from time import monotonic

from ..errors import CircuitOpenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

log = getLogger("upstash_state")

FAILURES_TO_OPEN = 3
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0


class Breaker:
    """Counts failures in a row; after three, refuses calls for a while, then lets one probe.

    The states are those of the circuit breaker in Michael Nygard's "Release It!": closed (calls
    pass), open (calls are refused until a moment), half-open (one call probes, the rest are
    refused). Every call that was let through must end in exactly one of `succeeded`, `failed` or
    `abandoned`.

    Args:
        clock: Returns seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._pause = 0.0
        self._open_until: float | None = None
        self._probing = False

    def enter(self) -> bool:
        """Ask to make a call.

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
            left = self._open_until - self._clock()
            if left > 0 or self._probing:
                raise CircuitOpenError(max(left, 0.0))
            self._probing = True
            return True

    def retry_now(self) -> None:
        """Let the next call probe, without waiting for the pause to end."""
        with self._lock:
            if self._open_until is not None:
                self._open_until = self._clock()

    def succeeded(self) -> None:
        """The endpoint works: it answered, be it with a refusal."""
        if not self._failures:
            return
        with self._lock:
            was_open = self._open_until is not None
            self._failures = 0
            self._pause = 0.0
            self._open_until = None
            self._probing = False
        if was_open:
            log.warning("Redis endpoint works again - calls are sent as before")

    def failed(self, cause: BaseException, *, probe: bool) -> None:
        """The endpoint could not be reached or did not work."""
        with self._lock:
            self._failures += 1
            opens = self._failures == FAILURES_TO_OPEN
            # A call that was already under way when the circuit opened says nothing new.
            if opens or probe:
                self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
                self._open_until = self._clock() + self._pause
            if probe:
                self._probing = False
            pause = self._pause
        if opens:
            log.error(
                "Redis endpoint failed %d calls in a row - not asked again for %.0f s: %s",
                FAILURES_TO_OPEN,
                pause,
                cause,
            )

    def abandoned(self, *, probe: bool) -> None:
        """The call ended without news of the endpoint, so another may probe in its place."""
        if probe:
            with self._lock:
                self._probing = False
