"""Time that passes when a test says so, and time that a busy machine does not stretch."""

from __future__ import annotations

import threading
from time import monotonic

_STEP = 0.01
# A thread that sleeps wakes a little late on any machine.
_USUAL = 0.005


class Clock:
    """A clock to pass in. It stands still until `now` is changed."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        #: Seconds.
        self.now = now

    def __call__(self) -> float:
        return self.now


class Stopwatch:
    """How long a block took, less what the machine kept it waiting for the processor.

        with Stopwatch() as watch:
            redis.ping()
        assert watch.seconds < 1

    A thread that only sleeps is late by as much as the machine is busy with something else.
    """

    def __init__(self) -> None:
        #: Seconds, once the block has ended.
        self.seconds = 0.0
        self._late = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Stopwatch:
        self._thread.start()
        self._begin = monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        took = monotonic() - self._begin
        self._over.set()
        self._thread.join()
        self.seconds = max(took - self._late, 0.0)

    def _measure(self) -> None:
        over = False
        while not over:
            begin = monotonic()
            over = self._over.wait(_STEP)
            late = monotonic() - begin - _STEP
            if late > _USUAL:
                self._late += late
