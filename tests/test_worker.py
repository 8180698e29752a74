"""The thread of background mode."""

from __future__ import annotations

import threading

from upstash_state.worker import Worker


def test_a_handler_that_wakes_it_in_the_middle_of_waking_it_does_not_wait() -> None:
    worked = threading.Event()
    worker = Worker(lambda: worked.set(), 0.0)
    woken = worker._woken

    class Interrupted(threading.Event):
        def set(self) -> None:
            # As a signal handler that saves, while the event's lock is locked.
            with self._cond:  # type: ignore[attr-defined]
                assert worker.wake()
            woken.set()

    worker._woken = Interrupted()
    worker._run = lambda: None  # type: ignore[method-assign]
    assert worker.wake()
    assert woken.is_set()


def test_it_works_again_after_an_error() -> None:
    works = threading.Semaphore(0)

    def work() -> None:
        works.release()
        raise OSError

    worker = Worker(work, 0.0)
    for _ in range(2):
        worker.wake()
        assert works.acquire(timeout=30)
