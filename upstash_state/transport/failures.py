"""Explain why an attempt got no answer, and whether to try again. No I/O."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from ..errors import EndpointTimeoutError, Reason, UnavailableError
from ..settings import Secret
from ..texts import shown, text_of, type_name
from .sent import SentRequest

# Statuses of transient failures (Upstash's documentation; RFC 9110, section 15).
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class LocalFault(Exception):
    """The text and traceback of a fault in this package or around it.

    It does not keep the exception's arguments and attributes, which may hold the request or a
    proxy's password.
    """


def failure_of(
    error: Exception, may_have_executed: bool, body: bytes, token: Secret
) -> UnavailableError:
    """Return the error that explains an exception of requests, urllib3 or the modules below them.

    The exception itself is not kept: it may hold the request, and so the token, and its text may
    hold a proxy's password. If it has nothing to do with the network, the cause of the error is a
    `LocalFault`, whose traceback shows where it was raised.

    Args:
        error: The exception, whose frames still have their local variables.
        may_have_executed: Whether the request may have reached the endpoint.
        body: The body of the request, which the text does not repeat.
        token: The token of the request, which the text does not repeat.
    """
    from http.client import HTTPException

    from requests import exceptions
    from urllib3.exceptions import HTTPError
    from urllib3.exceptions import TimeoutError as UrllibTimeoutError

    # Some platforms have no ssl. A module that was not imported has raised nothing.
    ssl: Any = sys.modules.get("ssl")
    sent = SentRequest(body, token)
    chain = list(_chain(error))

    def found(*kinds: Any) -> Any:
        return next((link for link in chain if isinstance(link, kinds)), None)

    proxied = found(exceptions.ProxyError)
    where = "the proxy" if proxied else "the endpoint"
    if refused := ssl and found(ssl.SSLCertVerificationError):
        why = getattr(refused, "verify_message", "") or text_of(refused)
        text = f"{where}'s certificate was refused: {shown(why)}"
        return UnavailableError(text, reason="certificate", may_have_executed=False)
    if tunnel := re.search("Tunnel connection failed: ([0-9]{3})", "\n".join(map(text_of, chain))):
        return _refused_by_proxy(int(tunnel[1]), chain)
    # Compare the type itself, because other connection errors of urllib3 are subclasses of it.
    timed_out = any(type(link) is UrllibTimeoutError for link in chain)
    if timed_out or found(TimeoutError, exceptions.Timeout):
        text = f"no answer from {where} within the time budget"
        return EndpointTimeoutError(text, transient=True, may_have_executed=may_have_executed)
    if found(exceptions.ContentDecodingError):
        return UnavailableError("the answer could not be decompressed", reason="answer")
    if isinstance(error, UnicodeEncodeError) and _proxy():
        # Only the proxy's credentials can cause this: the rest of a request is ASCII or bytes.
        text = "HTTPS_PROXY or ALL_PROXY has a user or password with characters outside of Latin-1"
        return UnavailableError(text, reason="proxy", may_have_executed=False)
    if not isinstance(error, (exceptions.RequestException, HTTPError, HTTPException, OSError)):
        text = _named(error, sent)
        failure = UnavailableError(text, may_have_executed=may_have_executed)
        failure.__cause__ = LocalFault(text).with_traceback(error.__traceback__)
        return failure
    # The invalid URL must be the proxy's, because the endpoint's was checked with the settings.
    if isinstance(error, (exceptions.InvalidURL, exceptions.InvalidSchema)):
        why = "is not the URL of an HTTP or SOCKS proxy"
        if "SOCKS" in text_of(error):
            why = "names a SOCKS proxy, which needs PySocks: `pip install 'requests[socks]'`"
        text = f"HTTPS_PROXY or ALL_PROXY {why}"
        return UnavailableError(text, reason="proxy", may_have_executed=False)
    reason, text = _reason(chain, sent)
    if ssl and found(ssl.SSLError):
        reason, text = "tls", f"TLS: {text}"
    elif proxied:
        reason = "proxy"
    elif reason == "closed" and not may_have_executed:
        reason = "connect"
    transient = (
        exceptions.ConnectionError, exceptions.ChunkedEncodingError, HTTPError, HTTPException,
    )  # fmt: skip
    return UnavailableError(
        f"the connection to {where} failed: {text}",
        reason=reason,
        transient=isinstance(error, transient),
        may_have_executed=may_have_executed,
    )


def forget_locals(error: BaseException) -> None:
    """Clear the frames of an exception's traceback, which may hold a token or password."""
    for link in _chain(error, suppressed=True):
        traceback.clear_frames(link.__traceback__)


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, None if there is no valid one."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return float(Retry().parse_retry_after(header)) if header else None
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _refused_by_proxy(status: int, chain: list[BaseException]) -> UnavailableError:
    text = f"the proxy answered with HTTP status {status}"
    if status == 403:
        text = "the proxy does not allow this host (HTTP status 403)"
    elif status == 407 and "@" not in _proxy():
        text += ": HTTPS_PROXY lacks the right user:password@"
    elif status == 407:
        offers = shown(_offered_schemes(chain) or "schemes that are not known here", 100)
        text += ": it did not accept the user and password in HTTPS_PROXY. "
        text += f"It offers {offers}; only Basic can be used"
    return UnavailableError(
        text, reason="proxy", transient=status in TRANSIENT, may_have_executed=False
    )


def _proxy() -> str:
    from urllib.request import getproxies

    # Only requests over https use a tunnel.
    proxies = getproxies()
    return proxies.get("https") or proxies.get("all") or ""


def _offered_schemes(chain: list[BaseException]) -> str:
    from http.client import HTTPConnection

    # The exception has no headers. Since Python 3.12, the connection that raised it has them.
    for link in chain:
        for frame, _ in traceback.walk_tb(link.__traceback__):
            connection = frame.f_locals.get("self")
            if isinstance(connection, HTTPConnection) and sys.version_info >= (3, 12):
                headers = connection.get_proxy_response_headers()
                offers = headers.get_all("Proxy-Authenticate", []) if headers else []
                return ", ".join(offer.split(" ")[0] for offer in offers)
    return ""


def _reason(chain: list[BaseException], sent: SentRequest) -> tuple[Reason, str]:
    from http.client import HTTPException, IncompleteRead, RemoteDisconnected
    from socket import gaierror

    from urllib3.exceptions import InvalidChunkLength, LocationParseError

    for link in reversed(chain):
        if isinstance(link, OSError) and link.strerror:
            named = f"{link.strerror}: {link.filename}" if link.filename else f"{link.strerror}"
            return "dns" if isinstance(link, gaierror) else "closed", shown(named)
        if isinstance(link, LocationParseError):
            return "dns", sent.own_words(text_of(link))
    for link in chain:
        # Only urllib3 raises the base class itself: for every error of `fetch` in Pyodide.
        if type(link) is HTTPException:
            return "closed", sent.own_words(text_of(link))
    last = chain[-1]
    if isinstance(last, RemoteDisconnected):
        return "closed", "closed without an answer"
    # urllib3 raises InvalidChunkLength if the connection ends where a chunk should start.
    cut = isinstance(last, IncompleteRead) and not isinstance(last, InvalidChunkLength)
    if cut or "Response ended prematurely" in map(text_of, chain):
        return "closed", "closed in the middle of the answer"
    if isinstance(last, (HTTPException, ValueError)) and len(chain) > 1:
        return "not-http", f"what came back is not HTTP ({type_name(last)})"
    # Only requests raises this, or a mock in its place, whose text says what the mock lacks.
    return "local", _named(last, sent)


def _named(error: BaseException, sent: SentRequest) -> str:
    return ": ".join(filter(None, (type_name(error), sent.own_words(text_of(error)))))


def _chain(error: BaseException, *, suppressed: bool = False) -> Iterator[BaseException]:
    seen = set()
    link: object = error
    while isinstance(link, BaseException) and id(link) not in seen:
        seen.add(id(link))
        yield link
        # requests and urllib3 pass on the exception that they caught as the first or last argument,
        # as `reason`, or as the cause.
        inner = (getattr(link, "reason", None), link.__cause__, *link.args[::-1])
        inside = (one for one in inner if isinstance(one, BaseException))
        # "from None" hides an exception that has nothing to do with the failure: urllib3 1.x tries
        # an argument that http.client does not have.
        hidden = link.__suppress_context__ and not suppressed
        link = next(inside, None if hidden else link.__context__)
