"""An attempt that brought no answer: why, and whether to try again. Pure, no I/O."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterator
from typing import Any

from ..errors import EndpointTimeoutError, Reason, UnavailableError
from ..settings import Secret

# Statuses of transient trouble, as Upstash's documentation and RFC 9110, section 15, describe it.
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
# Servers put what they were sent into their error texts; an order in a log line is too much.
LONGEST_TEXT = 500


def failure_of(error: Exception, may_have_executed: bool, secret: Secret) -> UnavailableError:
    """Explain an exception of requests, urllib3 or what lies beneath them.

    Nothing of one that is of the network is kept: it may hold the request, and with it the token,
    and its text may hold a proxy's password. Another one is a fault of this package or of what
    surrounds it, and becomes the cause.

    Args:
        error: What was raised.
        may_have_executed: Whether the request may have reached the endpoint.
        secret: What the text must not repeat.
    """
    from http.client import HTTPException
    from ssl import SSLCertVerificationError, SSLError

    from requests import exceptions
    from urllib3.exceptions import HTTPError

    chain = list(_chain(error))

    def found(*kinds: Any) -> Any:
        return next((link for link in chain if isinstance(link, kinds)), None)

    facts: dict[str, Any] = {"may_have_executed": may_have_executed}
    proxied = found(exceptions.ProxyError)
    where = "the proxy" if proxied else "the endpoint"
    if refused := found(SSLCertVerificationError):
        text = f"{where}'s certificate was refused: {refused.verify_message}"
        return UnavailableError(text, reason="certificate", may_have_executed=False)
    if tunnel := re.search("Tunnel connection failed: ([0-9]{3})", "\n".join(map(str, chain))):
        status = int(tunnel[1])
        hint = ": HTTPS_PROXY lacks the right user:password@" if status == 407 else ""
        text = f"the proxy answered with HTTP status {status}{hint}"
        facts = {"transient": status in TRANSIENT, "may_have_executed": False}
        return UnavailableError(text, reason="proxy", **facts)
    if found(TimeoutError, exceptions.Timeout):
        text = f"no answer of {where} within the time budget"
        return EndpointTimeoutError(text, transient=True, **facts)
    if found(exceptions.ContentDecodingError):
        return UnavailableError("the answer could not be decompressed", reason="answer")
    if not isinstance(error, (exceptions.RequestException, HTTPError, HTTPException, OSError)):
        failure = UnavailableError(f"{type(error).__name__}: {shown(str(error), secret)}", **facts)
        failure.__cause__ = error
        return failure
    # The endpoint's own URL was checked with the settings.
    if isinstance(error, (exceptions.InvalidURL, exceptions.InvalidSchema)):
        why = "is not the URL of an HTTP or SOCKS proxy"
        if "SOCKS" in str(error):
            why = "names a SOCKS proxy, which needs PySocks: `pip install 'requests[socks]'`"
        text = f"HTTPS_PROXY or ALL_PROXY {why}"
        return UnavailableError(text, reason="proxy", may_have_executed=False)
    reason, text = _reason(chain, secret)
    if found(SSLError):
        reason, text = "tls", f"TLS: {text}"
    elif proxied:
        reason = "proxy"
    elif reason == "closed" and not may_have_executed:
        reason = "connect"
    transient = (exceptions.ConnectionError, exceptions.ChunkedEncodingError, HTTPError)
    return UnavailableError(
        f"the connection to {where} failed: {text}",
        reason=reason,
        transient=isinstance(error, transient),
        **facts,
    )


def forget_locals(error: BaseException) -> None:
    """Empty the frames that an exception came through: a token or password may be in them."""
    for link in _chain(error):
        traceback.clear_frames(link.__traceback__)


def shown(text: str, secret: Secret) -> str:
    """A text of others in a form that a log line can hold: not too long, in one line, without the
    token or a URL's password."""
    text = re.sub("//[^/@ ]*@", "//***@", text.replace(secret.reveal(), "***"))
    text = text[:LONGEST_TEXT] + "…" * (len(text) > LONGEST_TEXT)
    return "".join(char if char.isprintable() else " " for char in text)


def retry_after(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    if header.isascii() and header.isdigit() and len(header) < 10:
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _reason(chain: list[BaseException], secret: Secret) -> tuple[Reason, str]:
    from http.client import HTTPException, IncompleteRead, RemoteDisconnected
    from socket import gaierror

    from urllib3.exceptions import LocationParseError

    for link in reversed(chain):
        if isinstance(link, OSError) and link.strerror:
            named = f"{link.strerror}: {link.filename}" if link.filename else link.strerror
            return "dns" if isinstance(link, gaierror) else "closed", named
        if isinstance(link, LocationParseError):
            return "dns", str(link)
    last = chain[-1]
    if isinstance(last, RemoteDisconnected):
        return "closed", "closed without an answer"
    # The latter is what urllib3 says of an end where another chunk should begin.
    if isinstance(last, IncompleteRead) or "Response ended prematurely" in map(str, chain):
        return "closed", "closed in the middle of the answer"
    if isinstance(last, (HTTPException, ValueError)) and len(chain) > 1:
        return "not-http", f"what came back is not HTTP ({type(last).__name__})"
    # Of requests alone, or of a mock in its place, which says what it lacks.
    return "local", f"{type(last).__name__}: {shown(str(last), secret)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    link: object = error
    while isinstance(link, BaseException) and id(link) not in seen:
        seen.add(id(link))
        yield link
        # requests and urllib3 hand on what they caught as the first or last argument, as `reason`,
        # or as the cause.
        inner = (getattr(link, "reason", None), link.__cause__, *link.args[::-1])
        inside = (one for one in inner if isinstance(one, BaseException))
        link = next(inside, link.__context__)
