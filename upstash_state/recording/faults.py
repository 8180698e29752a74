"""Faults that tests simulate: attempts that fail without being made."""

from __future__ import annotations

from typing import Literal

from ..errors import EndpointTimeoutError, UnavailableError
from ..transport import Answer
from .exchange import encode

Fault = Literal["outage", "slow", "wrong token", "quota"]

# Texts from Upstash's documentation (redis/troubleshooting).
_REFUSED = {
    "wrong token": (401, "WRONGPASS invalid or missing auth token"),
    "quota": (400, "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000"),
}


def simulated(fault: Fault) -> Answer:
    """Return the answer to an attempt that meets a fault.

    Raises:
        UnavailableError: With this fault there is no answer.
    """
    if fault == "outage":
        text = "the connection to the endpoint failed: simulated outage"
        raise UnavailableError(text, reason="connect", transient=True, may_have_executed=False)
    if fault == "slow":
        # Not transient, since the attempt has used up the whole time budget.
        raise EndpointTimeoutError("no answer from the endpoint within the time budget: simulated")
    status, text = _REFUSED[fault]
    return Answer(status, {}, encode({"error": text}))
