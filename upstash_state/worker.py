"""The thread of background mode. It starts when it is woken, and ends when it is idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

# Seconds without work after which the thread ends.
IDLE = 10.0


class Worker:
    """Call `work` in a daemon thread, some time after a call of `wake`.

    Args:
        work: Does the work. Returns the seconds after which to call it again even without a call
            of `wake`, or None.
        gather: Seconds between a call of `wake` and the call of `work`.
    """

    def __init__(self, work: Callable[[], float | None], gather: float) -> None:
        self._work = work
        self._gather = gather
        # Reentrant, because a signal handler may call `wake` while it interrupts another `wake`.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()
        self._setting = False

    def wake(self) -> bool:
        """Let the thread work `gather` seconds from now, and start it if it does not run.

        Returns:
            Whether there is a thread. No thread can start at the end of the interpreter, or on a
            platform without threads.
        """
        with self._lock:
            # The event's own lock is not reentrant: a signal handler that saves inside `set` would
            # wait for it forever.
            if not self._setting and not self._woken.is_set():
                self._setting = True
                try:
                    self._woken.set()
                finally:
                    self._setting = False
            if self._thread is None or not self._thread.is_alive():
                # In an empty context: since Python 3.14, a thread may inherit its starter's context
                # (sys.flags.thread_inherit_context), whose time budget may soon be used up.
                thread = threading.Thread(
                    target=Context().run,
                    args=(self._run,),
                    name="upstash_state worker",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    def _run(self) -> None:
        again: float | None = None
        pause = threading.Event()
        while True:
            if self._woken.wait(IDLE if again is None else again):
                pause.wait(self._gather)
            elif again is None:
                with self._lock:
                    if not self._woken.is_set():
                        self._thread = None
                        return
            self._woken.clear()
            # An error in one round must not end the thread, so the next round tries again.
            again = IDLE
            with suppress(Exception):
                again = self._work()
