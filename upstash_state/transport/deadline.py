"""The limits of an attempt: its deadline, and the size of an answer.

The timeout of requests and urllib3 applies to each single read, so an endpoint that sends a byte
every second holds a caller as long as it likes (psf/requests documents this under "Timeouts").
Here connecting (name, TCP, proxy, TLS) happens in a thread that the call stops waiting for, and
each read and write of a connected socket gets the time that is left. Any socket can be wrapped, as
in urllib3's `util/ssltransport.py`.

There are three gaps. A name lookup that hangs continues in its daemon thread until the platform's
resolver gives up (glibc: 5 s for each server and try). Where no thread can be started, as at the
end of the interpreter, each step of connecting has a limit, and not all of them together. TLS of
gevent, eventlet and pyOpenSSL restarts its timeout for each piece of a record of at most 16 KB.

In Pyodide a connection is a call of JavaScript's `fetch`, and there is no socket to wrap. urllib3
aborts the call when the headers of the answer do not arrive in time, and this package closes the
answer when its body does not. As on other platforms, an abandoned request may still be executed. In
a browser's page whose WebAssembly cannot wait for promises (JSPI), there is no limit, because a
synchronous XMLHttpRequest cannot have one there (urllib3, `contrib/emscripten/fetch.py`).
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import AnswerTooLargeError

T = TypeVar("T")

# A request may have 10 MB (free and pay-as-you-go plans), and so may the answer to an MGET.
MAX_ANSWER_BYTES = 16 * 1024 * 1024
# The head of an answer, and the sizes of its chunks.
OVERHEAD = 1024 * 1024

# Seconds after which the other side may have forgotten an idle connection. An attempt on it gets
# half of the time that is left, so that a new connection can be tried, unless the last answer was
# so slow that a new connection would not be in time either.
SUSPECT_AFTER = 1.0
SLOWER = 4
# The number of bytes passed at once to a socket that has only `sendall`.
PIECE = 16384


class Attempt:
    """The attempt of an exchange that is being made: its deadline, and what happened.

    Args:
        repeatable: Whether the request may be sent again when it may have been executed.

    Attributes:
        unspent: The seconds that were left by the clock when attempts of this exchange timed out. A
            clock that stands still (freezegun) leaves all of them.
        deadline: When it must have ended, on `time.monotonic()`'s clock.
        limit: When it is abandoned: its deadline, or earlier, to leave time for another attempt.
        kept: Whether it is made on a kept connection; None before it needs one.
        received: The number of bytes of the answer that were received.
        may_have_executed: Whether the request may have reached the endpoint.
    """

    deadline: float
    limit: float
    kept: bool | None
    received: int
    may_have_executed: bool

    def __init__(self, *, repeatable: bool) -> None:
        self.repeatable = repeatable
        self.unspent = 0.0

    def time_left(self) -> float:
        """Return the seconds until it must have ended.

        Raises:
            TimeoutError: No time is left.
        """
        left = self.limit - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def in_time(deadline: float, work: Callable[[], T]) -> T:
    """Do something in a thread, and stop waiting for it in time.

    Args:
        deadline: When to give up, on `time.monotonic()`'s clock.
        work: A function without a time limit. It continues after the caller has given up.

    Raises:
        TimeoutError: It was not done in time.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    # Not an Event: an interruption in its Python code would leave it locked.
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
        # No thread starts at the end of the interpreter, where apps save for the last time.
        run()
    if not done.acquire(timeout=max(deadline - time.monotonic(), 0)):
        raise TimeoutError("not done in time")
    if errors:
        raise errors.pop()
    return results.pop()


class Limited(io.RawIOBase):
    """A connected socket whose every read and write ends with the attempt that it is made for.

    It is also the file that http.client reads answers from.

    Args:
        sock: Any socket: plain, TLS of any make, of gevent or eventlet, through a proxy.
        attempt: The first attempt on it.
    """

    # Of the file. It stays open for the next answer.
    closed = False

    def __init__(self, sock: Any, attempt: Attempt) -> None:
        self._sock = sock
        #: The attempt that is being made on it.
        self.attempt = attempt
        self._unsent: list[bytes] = []
        self._sent_at = self._latency = 0.0
        #: When it was last used. Wall-clock time, which goes on, or is corrected, while a
        #: serverless process is frozen.
        self.last_used = time.time()
        #: Whether an answer is being read.
        self.reading = False
        #: Whether the last answer was read to its end, and nothing came after it.
        self.clean = True
        #: Whether it is closed, or will be when the answer has been read.
        self.gone = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def fileno(self) -> int:
        return int(self._sock.fileno())

    def readable(self) -> bool:
        return True

    def flush(self) -> None:
        """Do nothing. The file's own method asks a mocked socket whether it is closed."""

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: the attempt has the time limit."""

    def sendall(self, data: bytes) -> None:
        # Sent when the answer is read: http.client sends head and body in two calls, which would
        # be two packets.
        self.clean = False
        self._unsent.append(data)

    def makefile(self, *_: object) -> io.BufferedReader:
        self.reading = True
        return _Reader(self)

    def readinto(self, buffer: Any) -> int:
        if not self.reading:
            return 0
        attempt = self.attempt
        if self._unsent:
            self._send(attempt)
        self._sock.settimeout(attempt.time_left())
        count: int = self._sock.recv_into(buffer)
        if count and not attempt.received:
            attempt.limit = attempt.deadline
            self._latency = time.monotonic() - self._sent_at
        attempt.received += count
        if attempt.received > MAX_ANSWER_BYTES + OVERHEAD:
            # A body has its own limit. This one is for lines: urllib3 1.x reads them to the end.
            raise too_large()
        return count

    def close(self) -> None:
        self.gone = True
        # As with any socket, a file that `makefile` has returned can still be read.
        if not self.reading:
            self._sock.close()

    def _send(self, attempt: Attempt) -> None:
        data: Any = b"".join(self._unsent)
        self._unsent = []
        # urllib3's wrapper of a pyOpenSSL socket has no `send`.
        send = getattr(self._sock, "send", None)
        # As in urllib3: an endpoint that refuses a large request may answer before all is sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            while data:
                self._sock.settimeout(attempt.time_left())
                attempt.may_have_executed = True
                count = send(data) if send else self._sock.sendall(data[:PIECE]) or PIECE
                # The first piece is bytes, not a memoryview, because mocket decodes it.
                data = memoryview(data)[count:]
        self._sent_at = now = time.monotonic()
        half = (attempt.deadline - now) / 2
        idle = attempt.kept and time.time() - self.last_used >= SUSPECT_AFTER
        if idle and attempt.repeatable and half > self._latency * SLOWER:
            attempt.limit = now + half


class _Reader(io.BufferedReader):
    raw: Limited

    def close(self) -> None:
        sock = self.raw
        # `peek` then returns what was received, and receives no more.
        sock.reading = False
        sock.clean = not self.peek(1)
        sock.last_used = time.time()
        # Not closed, since that would close the socket.
        self.detach()
        if sock.gone:
            sock.close()


def too_large() -> AnswerTooLargeError:
    """Return the error for an answer of more than MAX_ANSWER_BYTES."""
    return AnswerTooLargeError(f"an answer of more than {MAX_ANSWER_BYTES} bytes was given up")
