"""The seam between the policy (retries, circuit, budget) and the wire: one attempt passes here.

Recordings, simulated faults and counters wrap the attempt here. Mocks of `requests` or of urllib3
are met below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .breaker import Breaker

if TYPE_CHECKING:
    from .wire import Wire

COMMAND, PIPELINE, TRANSACTION = "/", "/pipeline", "/multi-exec"


class Answer(NamedTuple):
    """What came back, whatever it says."""

    #: The HTTP status.
    status: int
    #: The HTTP headers, by whatever case.
    headers: Mapping[str, str]
    #: The body, decompressed.
    body: bytes


#: Makes one attempt. Its arguments are the path (COMMAND, PIPELINE or TRANSACTION), the body, and
#: the moment on `time.monotonic()`'s clock at which it must have ended. It raises an
#: `UnavailableError` when the attempt brought no answer.
Send = Callable[[str, bytes, float], Answer]
#: Wraps the attempts of a wire.
Interceptor = Callable[["Wire", Send], Send]


class _Interception(NamedTuple):
    interceptor: Interceptor
    breaker: Breaker | None


# Appending to and removing from a list are atomic, so it needs no lock.
_interceptions: list[_Interception] = []


@contextmanager
def intercepting(
    interceptor: Interceptor, *, simulated: bool = False, clock: Callable[[], float] = monotonic
) -> Iterator[None]:
    """Let every attempt of this process, of whatever thread, pass through an interceptor.

    Blocks nest: the interceptor of the innermost is the last before the wire.

    Args:
        interceptor: Takes the wire and its `send`, and returns what is called instead.
        simulated: Whether the endpoint is not the real one. Then pauses between retries are not
            waited for, and a circuit of the block's own is used instead of the client's.
        clock: What a circuit of the block's own goes by.
    """
    entry = _Interception(interceptor, Breaker(clock) if simulated else None)
    _interceptions.append(entry)
    try:
        yield
    finally:
        index = next(i for i, one in enumerate(_interceptions) if one is entry)
        del _interceptions[index]


def intercepted(wire: Wire, send: Send) -> Send:
    """The attempt with all interceptors around it."""
    for interception in reversed(_interceptions):
        send = interception.interceptor(wire, send)
    return send


def simulated_breaker() -> Breaker | None:
    """The circuit of the innermost block whose endpoint is simulated; None without such a block."""
    return next((one.breaker for one in reversed(_interceptions) if one.breaker), None)
