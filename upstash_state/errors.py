"""The exceptions of this package: one class for each failure that callers may handle differently.

Each is an `UpstashError`. It has two main subclasses: `UnavailableError` means that the endpoint
could not be reached or did not work, so a later call may succeed. `ResponseError` means that the
endpoint refused, so a repeated call is refused again.
"""

from __future__ import annotations

import copyreg
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Reason = Literal[
    "dns",
    "connect",
    "tls",
    "certificate",
    "proxy",
    "timeout",
    "closed",
    "status",
    "not-http",
    "answer",
    "too-large",
    "circuit",
    "budget",
    "local",
]


class UpstashError(Exception):
    """Base class of every exception that this package raises on purpose."""

    #: Whether an attempt of the exchange may have been executed, or may still be. It is also True
    #: for a refusal after an abandoned attempt.
    may_have_executed: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, copying and unpickling call the class with `args`. That fails for a class that
        # takes other arguments, and makes a multiprocessing pool hang.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class SettingsError(UpstashError, ValueError):
    """Raised for an invalid setting: a malformed URL, a token that a header cannot hold."""


class MissingCredentialsError(SettingsError):
    """Raised when neither pair of URL and token is set in the environment."""


class DataError(UpstashError, TypeError):
    """Raised before any request is made, for an argument that the REST protocol cannot carry."""


class OrderNotSerializableError(DataError):
    """Raised for an order that JSON cannot hold. The message names the path to the value."""


class NotRecordedError(UpstashError):
    """Raised in tests instead of sending a request that is not in a recording."""


class OrderUnreadableError(UpstashError, ValueError):
    """Raised for a stored text that is not an order in JSON."""


class UnavailableError(UpstashError):
    """Raised when the endpoint could not be reached, or answered as if it did not work.

    Args:
        message: What happened, for people.
        reason: What happened, for programs; by default, the reason of the class.
        transient: Whether another attempt may succeed.
        may_have_executed: Whether the command may have been executed, or may still be.
        retry_after: Seconds to wait before another attempt; None if they are not known.
    """

    reason: Reason = "local"
    #: Whether the same failure has already been logged, so that not every call logs it.
    reported = False

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        transient: bool = False,
        may_have_executed: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        #: What happened: "dns" (the name was not found), "connect" (no connection), "tls",
        #: "certificate" (it was refused), "proxy" (the proxy refused or did not work), "timeout",
        #: "closed" (the connection broke), "status" (of HTTP), "not-http", "answer" (it does not
        #: follow Upstash's REST API), "too-large", "circuit" (open, so nothing was sent), "budget"
        #: (used up, so nothing was sent), or "local" (a fault in this package or around it).
        self.reason = reason or type(self).reason
        #: Whether another attempt may succeed.
        self.transient = transient
        #: Whether the command may have been executed, or may still be.
        self.may_have_executed = may_have_executed
        #: Seconds to wait before another attempt; None if they are not known.
        self.retry_after = retry_after


class EndpointTimeoutError(UnavailableError):
    """Raised when a call's time budget ended before the complete answer had arrived."""

    reason: Reason = "timeout"


class BudgetError(EndpointTimeoutError):
    """Raised without a request when the enclosing `time_budget` was already used up.

    Args:
        message: What happened, for people.
    """

    reason: Reason = "budget"

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True, may_have_executed=False)


class SlowDownError(UnavailableError):
    """Raised when the endpoint answered with HTTP status 429 until the time budget ended."""

    reason: Reason = "status"


class AnswerError(UnavailableError):
    """Raised for an answer that does not follow Upstash's REST API, or does not fit the command."""

    reason: Reason = "answer"


class AnswerTooLargeError(AnswerError):
    """Raised for an answer that is larger than this client reads."""

    reason: Reason = "too-large"


class CircuitOpenError(UnavailableError):
    """Raised without a request while the circuit is open, after repeated failures.

    Args:
        retry_in: Seconds until a call is sent again.
    """

    reason: Reason = "circuit"
    reported = True

    def __init__(self, retry_in: float) -> None:
        super().__init__(
            f"not asked: the endpoint kept failing; next try in {retry_in:.1f} s",
            transient=True,
            may_have_executed=False,
            retry_after=retry_in,
        )
        #: Seconds until a call is sent again.
        self.retry_in = retry_in


class ResponseError(UpstashError):
    """Raised when the endpoint refused a command. The message is the endpoint's own."""


class AuthenticationError(ResponseError):
    """Raised when the token is wrong or missing (the TCP password is not the REST token)."""


class NoPermissionError(ResponseError):
    """Raised when the token may not run the command: the read-only token cannot write or SCAN."""


class QuotaExceededError(ResponseError):
    """Raised when the plan's commands, for the day or the month, are used up."""


class RequestTooLargeError(ResponseError):
    """Raised when a request, or the answer to it, is over the plan's size limit."""


class RecordTooLargeError(ResponseError):
    """Raised when a single value is over the plan's limit (100 MB)."""


class KeyTooLargeError(ResponseError):
    """Raised when a key is over Upstash's limit (32 KB)."""


class CapacityExceededError(ResponseError):
    """Raised when the database is full. Reading and deleting still work."""


class WrongTypeError(ResponseError):
    """Raised when a command does not fit the type of the value that the key holds."""


class RestoreError(UpstashError):
    """Raised when a restore could not be finished. `__cause__` says why."""


class SaveManyError(UpstashError):
    """Raised when some of several orders could not be saved. The others were saved.

    Args:
        saved: The ids of the orders that Redis now holds.
        failed: The error of each other order, by its id.
    """

    def __init__(self, saved: Sequence[str], failed: Mapping[str, UpstashError]) -> None:
        first = next(iter(failed.values()))
        super().__init__(f"{len(failed)} of {len(saved) + len(failed)} orders not saved: {first}")
        #: The ids of the orders that Redis now holds.
        self.saved = saved
        #: The errors by order id. Orders that failed for the same cause share one exception.
        self.failed = failed
