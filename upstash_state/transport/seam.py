"""The seam between the policy (retries, circuit, budget) and the wire: one attempt passes here.

Recordings, simulated faults and counters wrap the attempt here. Mocks of `requests` or of urllib3
are met below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from ..settings import Secret
from .breaker import Breaker

COMMAND, PIPELINE, TRANSACTION = "/", "/pipeline", "/multi-exec"


class Endpoint(Protocol):
    """What attempts are made over.

    Attributes:
        url: The endpoint's address.
        token: The REST token.
    """

    url: str
    token: Secret


class Answer(NamedTuple):
    """What came back, whatever it says.

    Attributes:
        status: The HTTP status.
        headers: The HTTP headers, by whatever case.
        body: The body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


#: Makes one attempt. Its arguments are the path (COMMAND, PIPELINE or TRANSACTION), the body, and
#: the moment on `time.monotonic()`'s clock at which it must have ended. It raises an
#: `UnavailableError` when the attempt brought no answer.
Send = Callable[[str, bytes, float], Answer]
#: Wraps the attempts of a wire.
Interceptor = Callable[[Endpoint, Send], Send]

# Appending to and removing from a list are atomic, so it needs no lock.
_interceptions: list[tuple[Interceptor, Breaker | None]] = []


@contextmanager
def intercepting(
    interceptor: Interceptor, *, simulated: bool = False, clock: Callable[[], float] | None = None
) -> Iterator[None]:
    """Let every attempt of this process, of whatever thread, pass through an interceptor.

    Blocks nest: the interceptor of the innermost is the last before the wire.

    Args:
        interceptor: Takes the wire and its `send`, and returns what is called instead.
        simulated: Whether the endpoint is not the real one. Then pauses between retries are not
            waited for, and a circuit of the block's own is used instead of the client's.
        clock: What a circuit of the block's own goes by; `time.monotonic` when left out.
    """
    # As an object of its own, so that the same interceptor may be used twice.
    entry = (interceptor, Breaker(clock) if simulated else None)
    _interceptions.append(entry)
    try:
        yield
    finally:
        del _interceptions[next(i for i, one in enumerate(_interceptions) if one is entry)]


def intercepted(wire: Endpoint, send: Send) -> Send:
    """The attempt with all interceptors around it."""
    for interceptor, _ in reversed(_interceptions):
        send = interceptor(wire, send)
    return send


def intercepts() -> bool:
    """Whether any interceptor stands between the policy and the wire."""
    return bool(_interceptions)


def simulated_breaker() -> Breaker | None:
    """The circuit of the innermost block whose endpoint is simulated; None without such a block."""
    return next((breaker for _, breaker in reversed(_interceptions) if breaker), None)
