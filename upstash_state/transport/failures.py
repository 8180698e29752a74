"""An attempt that brought no answer: why, and whether to try again. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from time import time

from ..errors import EndpointTimeoutError, Reason, UnavailableError

# Statuses of transient trouble, as Upstash's documentation and RFC 9110, section 15, describe it.
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


def failure_of(error: Exception, *, may_have_executed: bool) -> UnavailableError:
    """Explain an exception of requests, urllib3 or what lies beneath them.

    Nothing of the exception is kept: it may hold the request, and with it the token, and its text
    may hold a proxy's password.

    Args:
        error: What was raised.
        may_have_executed: Whether the request may have reached the endpoint.
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
    proxied = any(isinstance(link, ProxyError) for link in chain)
    where = "the proxy" if proxied else "the endpoint"
    for link in chain:
        if isinstance(link, SSLCertVerificationError):
            text = f"{where}'s certificate was refused: {link.verify_message}"
            return UnavailableError(text, reason="certificate", may_have_executed=False)
    status = _tunnel_status(chain)
    if status is not None:
        hint = ": HTTPS_PROXY lacks the right user:password@" if status == 407 else ""
        return UnavailableError(
            f"the proxy answered with HTTP status {status}{hint}",
            reason="proxy",
            transient=status in TRANSIENT,
            may_have_executed=False,
        )
    if any(isinstance(link, (TimeoutError, Timeout)) for link in chain):
        text = f"no answer of {where} within the time budget"
        return EndpointTimeoutError(text, transient=True, may_have_executed=may_have_executed)
    if isinstance(error, ContentDecodingError):
        return UnavailableError("the answer could not be decompressed", reason="answer")
    reason, text = _reason(chain)
    if proxied:
        reason = "proxy"
    if any(isinstance(link, SSLError) for link in chain):
        reason, text = "tls", f"TLS: {text}"
    return UnavailableError(
        f"the connection to {where} failed: {text}",
        reason=reason,
        transient=isinstance(error, (ConnectionError, ChunkedEncodingError, HTTPError)),
        may_have_executed=may_have_executed,
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


def _reason(chain: list[BaseException]) -> tuple[Reason, str]:
    from http.client import HTTPException, IncompleteRead, RemoteDisconnected
    from socket import gaierror

    from urllib3.exceptions import NewConnectionError

    for link in reversed(chain):
        if isinstance(link, OSError) and link.strerror:
            if isinstance(link, gaierror):
                return "dns", link.strerror
            if any(isinstance(link, NewConnectionError) for link in chain):
                return "connect", link.strerror
            broke = isinstance(link, ConnectionError)
            return "closed" if broke else "local", link.strerror
    last = chain[-1]
    if isinstance(last, RemoteDisconnected):
        return "closed", "closed without an answer"
    if isinstance(last, IncompleteRead):
        return "closed", "closed in the middle of the answer"
    if isinstance(last, (HTTPException, ValueError)):
        return "not-http", f"what came back is not HTTP ({type(last).__name__})"
    return "local", type(last).__name__


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
