"""A thread that works a while after it was woken, and ends when there is nothing to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

# Seconds without work after which the thread ends.
IDLE = 10.0


class Worker:
    """Runs `work` in a daemon thread, which lives on after neither a fork nor `stop`.

    What a runtime such as gevent replaces is looked up when the thread starts, not at import.

    Args:
        work: Does what there is to do, and gives the seconds after which to call it again without
            being woken, or None. It does not raise.
        gather: Seconds between being woken and working.
    """

    def __init__(self, work: Callable[[], float | None], gather: float) -> None:
        self._work = work
        self._gather = gather
        self._start_anew()

    def _start_anew(self) -> None:
        self._pid = os.getpid()
        # A signal handler may wake it while the code that it interrupted does.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Let it work, `gather` seconds from now. Does not wait.

        Raises:
            RuntimeError: No thread can be started, as at the end of the interpreter.
        """
        if self._pid != os.getpid():
            self._start_anew()
        with self._lock:
            if self._thread is None:
                self._woken, self._stopped = threading.Event(), threading.Event()
                events = (self._woken, self._stopped)
                thread = threading.Thread(
                    target=self._run, args=events, name="upstash_state saver", daemon=True
                )
                thread.start()
                self._thread = thread
            if not self._woken.is_set():
                self._woken.set()

    def stop(self) -> None:
        """End the thread once it has done what it is doing."""
        with self._lock:
            if self._thread is not None:
                self._thread = None
                self._stopped.set()
                self._woken.set()

    def _run(self, woken: threading.Event, stopped: threading.Event) -> None:
        again: float | None = None
        while True:
            called = woken.wait(IDLE if again is None else again)
            if called and stopped.wait(self._gather):
                return
            with self._lock:
                if stopped.is_set():
                    return
                if not called and again is None and not woken.is_set():
                    self._thread = None
                    return
                woken.clear()
            again = self._work()
