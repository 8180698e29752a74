"""The seam between an exchange (retries, circuit, budget) and HTTP: each attempt passes here.

Recordings, simulated faults and counters wrap the attempts here. Mocks of requests and urllib3 work
below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ..settings import Secret
from .breaker import Breaker

COMMAND, PIPELINE, TRANSACTION = "/", "/pipeline", "/multi-exec"


class Endpoint(Protocol):
    """The endpoint of an attempt.

    Attributes:
        url: The endpoint's address.
        token: The REST token.
    """

    url: str
    token: Secret


class Answer(NamedTuple):
    """The endpoint's answer to an attempt.

    Attributes:
        status: The HTTP status.
        headers: The HTTP headers; their names in any case.
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


#: Makes one attempt. Its arguments are the path (COMMAND, PIPELINE or TRANSACTION), the body, and
#: the moment on `time.monotonic()`'s clock at which it must have ended. It raises an
#: `UnavailableError` without an answer.
Send = Callable[[str, bytes, float], Answer]
#: Wraps the attempts at an endpoint.
Interceptor = Callable[[Endpoint, Send], Send]

#: Takes the endpoint's host (not the proxy's), and raises an `UpstashError` to refuse a connection.
Check = Callable[[str], None]


class _Interception:
    # Not a tuple: two of them are never equal, so that blocks may end in any order.
    def __init__(self, interceptor: Interceptor, breaker: Breaker | None, one_by_one: bool) -> None:
        self.interceptor = interceptor
        self.breaker = breaker
        self.one_by_one = one_by_one


# Appending to and removing from a list are atomic, so these need no lock.
_interceptions: list[_Interception] = []
#: Called in the caller's thread, before the transport opens a connection (also one through a proxy)
#: and before it sends on a kept one.
checks: list[Check] = []


@contextmanager
def intercepting(
    interceptor: Interceptor,
    *,
    simulated: bool = False,
    clock: Callable[[], float] | None = None,
    one_by_one: bool = False,
) -> Iterator[None]:
    """Pass every attempt of this process, in any thread, through an interceptor.

    Blocks can be nested: the interceptor of the innermost block is the last before HTTP.

    Args:
        interceptor: Takes the endpoint and its `send`, and returns the function to call instead.
        simulated: Whether the endpoint is not the real one. Then pauses between retries are not
            waited for, and the block's own circuit is used instead of the client's.
        clock: The clock of the block's own circuit, `time.monotonic` by default.
        one_by_one: Whether each save is sent in a request of its own, in the order of the calls
            and in the caller's thread (see the function `one_by_one`).
    """
    entry = _Interception(interceptor, Breaker(clock) if simulated else None, one_by_one)
    _interceptions.append(entry)
    try:
        yield
    finally:
        _interceptions.remove(entry)


@contextmanager
def guarding(check: Check) -> Iterator[None]:
    """Ask a function before each real connection of this process, in any thread.

    Requests that an interceptor or a mock answers make no connection, so they pass.

    Args:
        check: See `Check`.
    """
    checks.append(check)
    try:
        yield
    finally:
        checks.remove(check)


def one_by_one() -> bool:
    """Return whether each save has to be a request of its own.

    While this is true, the delivery sends saves and deletes in the order of the calls, in the
    caller's thread (also in background mode), and sends nothing else along. So the requests of a
    test do not depend on timing, and its recording can be replayed.
    """
    return bool(_interceptions) and any(entry.one_by_one for entry in _interceptions)


def intercepted(endpoint: Endpoint, send: Send) -> Send:
    """Wrap all interceptors around an attempt."""
    for entry in reversed(_interceptions):
        send = entry.interceptor(endpoint, send)
    return send


def simulated_breaker() -> Breaker | None:
    """Return the circuit of the innermost block with a simulated endpoint, or None."""
    for entry in reversed(_interceptions):
        if entry.breaker:
            return entry.breaker
    return None
