"""A daemon thread for background mode. It works when it is woken, and ends when it is idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

# Seconds without work after which the thread ends.
IDLE = 10.0


class Worker:
    """Calls `work` in a thread, a while after `wake` was called.

    Args:
        work: Does what there is to do, and returns the seconds after which to call it again
            without being woken, or None.
        gather: Seconds between being woken and working.
    """

    def __init__(self, work: Callable[[], float | None], gather: float) -> None:
        self._work = work
        self._gather = gather
        # Reentrant: a signal handler may wake it while the code that it interrupted does.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()

    def wake(self) -> bool:
        """Let it work, `gather` seconds from now. Start the thread if there is none.

        Returns:
            Whether there is a thread. There is none where the platform has no threads, or at the
            end of the interpreter.
        """
        with self._lock:
            if not self._woken.is_set():
                self._woken.set()
            if self._thread is None or not self._thread.is_alive():
                # In an empty context: since Python 3.14, a thread may inherit that of its starter
                # (sys.flags.thread_inherit_context), with a time budget that is soon used up.
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
            # Whatever is wrong in one round, the next one is tried.
            again = IDLE
            with suppress(Exception):
                again = self._work()
