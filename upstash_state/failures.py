"""An attempt that brought no answer: why, and whether to try again. Pure, no I/O."""

from __future__ import annotations

from time import time

from .errors import EndpointTimeoutError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What passes by itself, as Upstash's documentation and RFC 9110, section 15, describe it.
PASSING = frozenset({408, 429, 500, 502, 503, 504})


class Failure:
    """Why an attempt failed, and what may be done about it.

    Attributes:
        error: What to raise when it is not tried again.
        passing: Whether it may go differently the next time.
        may_have_run: Whether the commands may have been run all the same.
        retry_after: Seconds that the endpoint asks to wait, or None.
    """

    __slots__ = ("error", "may_have_run", "passing", "retry_after")

    def __init__(
        self,
        error: UnavailableError,
        *,
        passing: bool = False,
        may_have_run: bool = True,
        retry_after: float | None = None,
    ) -> None:
        self.error = error
        self.passing = passing
        self.may_have_run = may_have_run
        self.retry_after = retry_after


def failure_of(error: Exception, *, may_have_run: bool) -> Failure:
    """Explain an exception of requests, urllib3 or what lies beneath them.

    Nothing of the exception is kept: it may hold the request, and with it the token, and its text
    may hold a proxy's password.

    Args:
        error: What was raised.
        may_have_run: Whether the request may have reached the endpoint.
    """
    from ssl import SSLCertVerificationError, SSLError

    from requests.exceptions import (
        ChunkedEncodingError,
        ConnectionError,
        ContentDecodingError,
        ProxyError,
        Timeout,
    )
    from urllib3.exceptions import HTTPError

    chain = list(_chain(error))
    where = "the proxy" if any(isinstance(link, ProxyError) for link in chain) else "the endpoint"
    for link in chain:
        if isinstance(link, SSLCertVerificationError):
            return Failure(
                UnavailableError(f"{where}'s certificate was refused: {link.verify_message}"),
                may_have_run=False,
            )
    status = _tunnel_status(chain)
    if status is not None:
        hint = ": HTTPS_PROXY lacks the right user:password@" if status == 407 else ""
        return Failure(
            UnavailableError(f"the proxy answered with HTTP status {status}{hint}"),
            passing=status in PASSING,
            may_have_run=False,
        )
    if any(isinstance(link, (TimeoutError, Timeout)) for link in chain):
        text = f"no answer of {where} within the time budget"
        return Failure(EndpointTimeoutError(text), passing=True, may_have_run=may_have_run)
    if isinstance(error, ContentDecodingError):
        return Failure(UnavailableError("the answer could not be decompressed"))
    reason = _reason(chain)
    if any(isinstance(link, SSLError) for link in chain):
        reason = f"TLS: {reason}"
    return Failure(
        UnavailableError(f"the connection to {where} failed: {reason}"),
        passing=isinstance(error, (ConnectionError, ChunkedEncodingError, HTTPError)),
        may_have_run=may_have_run,
    )


def retry_after(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    if header.isascii() and header.isdigit() and len(header) < 10:
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _reason(chain: list[BaseException]) -> str:
    from http.client import HTTPException, IncompleteRead, RemoteDisconnected

    for link in reversed(chain):
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
    last = chain[-1]
    if isinstance(last, RemoteDisconnected):
        return "closed without an answer"
    if isinstance(last, IncompleteRead):
        return "closed in the middle of the answer"
    if isinstance(last, (HTTPException, ValueError)):
        return f"what came back is not HTTP ({type(last).__name__})"
    return type(last).__name__


def _tunnel_status(chain: list[BaseException]) -> int | None:
    # http.client hands a proxy's answer to CONNECT on as text.
    for link in chain:
        before, found, answer = str(link).partition("Tunnel connection failed: ")
        if found and not before and answer[:3].isdecimal():
            return int(answer[:3])
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    link: object = error
    while isinstance(link, BaseException) and id(link) not in seen:
        seen.add(id(link))
        yield link
        # requests and urllib3 hand on what they caught as the first or last argument, as `reason`,
        # or as the cause.
        link = next(
            (
                inner
                for inner in (getattr(link, "reason", None), link.__cause__, *link.args[::-1])
                if isinstance(inner, BaseException)
            ),
            link.__context__,
        )
