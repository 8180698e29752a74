"""Faults for testing what an app does without Redis: simulated, so nothing is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from ..errors import EndpointTimeoutError, UnavailableError
from .exchange import Exchange, Request, encode

Fault = Literal["outage", "slow", "wrong token", "quota"]

# Raised as the client itself does in the end. After an exception of requests it would try again,
# and wait for that.
_UNAVAILABLE: dict[str, Callable[[], UnavailableError]] = {
    "outage": lambda: UnavailableError("the connection to the endpoint failed: simulated outage"),
    "slow": lambda: EndpointTimeoutError(
        "no answer of the endpoint within the time budget: simulated"
    ),
}
# The texts are those of Upstash's documentation (redis/troubleshooting).
_REFUSED = {
    "wrong token": (401, "WRONGPASS invalid or missing auth token"),
    "quota": (400, "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000"),
}


def checked(fault: str) -> None:
    """Raise a ValueError for a fault that there is not."""
    if fault not in get_args(Fault):
        raise ValueError(f"fault must be one of {', '.join(get_args(Fault))}, not {fault!r}")


def simulated(asked: Request, fault: Fault) -> Exchange:
    """What comes of a request that meets a fault.

    Raises:
        UnavailableError: The fault is one that brings no answer.
    """
    if fault in _UNAVAILABLE:
        raise _UNAVAILABLE[fault]()
    return refusal(asked, *_REFUSED[fault])


def refusal(asked: Request, status: int, text: str) -> Exchange:
    """A request and its `{"error": …}`."""
    return Exchange(asked, status, encode({"error": text}))
