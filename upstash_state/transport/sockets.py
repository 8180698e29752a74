"""What bounds an attempt: its deadline, and a socket that keeps to it.

A timeout given to requests or urllib3 bounds each single read, so an endpoint that sends a byte
every second holds a caller for as long as it likes (psf/requests documents this under "Timeouts").
Here connecting (name, TCP, proxy, TLS) happens in a thread that the call stops waiting for in time,
and a connected socket gets what is left of the attempt's time for each read and write. Both are put
around whatever connects and whatever socket comes of it, as urllib3's `util/ssltransport.py` does.

What cannot be bounded: a name lookup that hangs goes on in its daemon thread until the platform's
resolver gives up (glibc: 5 s for each server and try, 30 s in all with three servers). Where no
thread can be started, as at the end of the interpreter, the call waits for that. TLS of gevent,
eventlet and pyOpenSSL waits anew for each piece of a record of at most 16 KB.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

# A connection that was not used for so many seconds may have been forgotten by the other side. It
# is waited for no longer than half of the time that is left, so that a fresh one can be tried;
# unless its last answer took so long that a fresh one would not be in time either.
SUSPECT_AFTER = 1.0
SLOWER = 4
# What a socket that sends all or nothing is given at once.
PIECE = 16384


class Attempt:
    """One attempt: its deadline going in, what happened coming out.

    Args:
        deadline: When it must have ended, on `time.monotonic()`'s clock.
        fresh_only: Whether to use no kept connection.
        repeatable: Whether the request may be sent again when it may have been executed.
    """

    def __init__(self, deadline: float, *, fresh_only: bool, repeatable: bool) -> None:
        self.deadline = self.limit = deadline
        self.fresh_only = fresh_only
        self.repeatable = repeatable
        self._outer = current_attempt.get()
        #: Whether a kept connection was used for it.
        self.kept = False
        #: Whether an answer began to come.
        self.answered = False
        #: Whether the request may have reached the endpoint.
        self.may_have_executed = True

    def __enter__(self) -> Attempt:
        current_attempt.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        current_attempt.set(self._outer)

    def depth(self) -> int:
        """How many attempts this one was begun within, by handlers of signals or log records.

        One that an interruption kept from leaving its block counts until its deadline.
        """
        outer = self._outer
        inside = outer is not None and outer.deadline > time.monotonic()
        return outer.depth() + 1 if outer is not None and inside else 0

    def time_left(self) -> float:
        """Seconds until it must have ended.

        Raises:
            TimeoutError: There are none.
        """
        left = self.limit - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


#: The attempt that is being made in this context.
current_attempt: ContextVar[Attempt | None] = ContextVar("upstash_state_attempt", default=None)


def in_time(deadline: float, work: Callable[[], T]) -> T:
    """Do something that knows no time limit, and stop waiting for it in time.

    Args:
        deadline: When to give up, on `time.monotonic()`'s clock.
        work: What to do. It goes on when nobody waits for it any more.

    Raises:
        TimeoutError: It was not done in time.
    """
    return begin(work)(deadline)


def begin(work: Callable[[], T]) -> Callable[[float], T]:
    """Begin to do something in a thread. Gives what waits for it in time, as `in_time` does."""
    results: list[T] = []
    errors: list[BaseException] = []
    # Not an Event: an interruption in the middle of its Python code would leave it locked.
    done = threading.Lock()
    done.acquire()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    try:
        threading.Thread(target=run, name="upstash_state connecting", daemon=True).start()
    except RuntimeError:
        # At the end of the interpreter, where apps save for the last time, no thread starts.
        run()

    def result(deadline: float) -> T:
        if not done.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise TimeoutError("not done in time")
        if errors:
            raise errors.pop()
        return results.pop()

    return result


class Limited:
    """A connected socket whose every read and write ends with the attempt that it is made for.

    Args:
        sock: Any socket: plain, TLS of any make, of gevent or eventlet, through a proxy.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._unsent: list[bytes] = []
        self._readers = 0
        self._closed = False
        self._sent_at = self._latency = 0.0
        #: When it was last used. Wall-clock time: it goes on, or is put right, while a serverless
        #: process is frozen.
        self.last_used = time.time()
        #: Whether the last answer was read to its end, and nothing came after it.
        self.clean = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the attempt says how long."""

    def sendall(self, data: bytes) -> None:
        # Kept until the answer is waited for. http.client sends head and body apart: two system
        # calls, two packets, and an endpoint that is woken twice.
        self.clean = False
        self._unsent.append(data)

    def recv_into(self, buffer: Any) -> int:
        attempt = current_attempt.get()
        if attempt is None:
            raise OSError("used outside of an attempt")
        if self._unsent:
            self._send(attempt)
        self._sock.settimeout(attempt.time_left())
        count: int = self._sock.recv_into(buffer)
        if count and not attempt.answered:
            attempt.answered = True
            attempt.limit = attempt.deadline
            self._latency = time.monotonic() - self._sent_at
        return count

    def makefile(self, *_: object) -> io.BufferedReader:
        self._readers += 1
        return _Reader(_Raw(self))

    def ended(self, *, clean: bool) -> None:
        """One of its readers is closed."""
        self._readers -= 1
        self.clean = clean
        self.last_used = time.time()
        if self._closed:
            self.close()

    def close(self) -> None:
        self._closed = True
        # As with any socket, what was made of it can still be read.
        if self._readers <= 0:
            self._sock.close()

    def _send(self, attempt: Attempt) -> None:
        data: Any = b"".join(self._unsent)
        self._unsent = []
        attempt.may_have_executed = True
        # pyOpenSSL's, as urllib3 wraps it, has no `send`.
        send = getattr(self._sock, "send", None)
        # As urllib3 does: what refuses a large request may answer and close before all is sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            while data:
                self._sock.settimeout(attempt.time_left())
                count = send(data) if send else self._sock.sendall(data[:PIECE]) or PIECE
                # Not before, since mocket decodes what it is given.
                data = memoryview(data)[count:]
        self._sent_at = now = time.monotonic()
        half = (attempt.deadline - now) / 2
        idle = attempt.kept and time.time() - self.last_used >= SUSPECT_AFTER
        if idle and attempt.repeatable and half > self._latency * SLOWER:
            attempt.limit = now + half


class _Raw(io.RawIOBase):
    ended = False

    def __init__(self, sock: Limited) -> None:
        self.sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return 0 if self.ended else self.sock.recv_into(buffer)


class _Reader(io.BufferedReader):
    raw: _Raw

    def close(self) -> None:
        if not self.closed:
            self.raw.ended = True
            more = self.peek(1)
            super().close()
            self.raw.sock.ended(clean=not more)
