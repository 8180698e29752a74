"""Who may ask an endpoint on a loopback address: programs and pages of this machine. No I/O."""

from __future__ import annotations

from contextlib import suppress
from email.message import Message
from http import HTTPStatus
from urllib.parse import urlsplit

from ..settings import is_loopback
from .protocol import Refusal


def refuse_foreign(headers: Message, *, any_name: bool) -> None:
    """Refuse a request that the page of another site may have sent.

    The browser names the page in Origin (Fetch, "Origin header"), or says in Sec-Fetch-Site that an
    image, a form or a link crosses sites (Fetch Metadata Request Headers). A page whose own name
    leads to this machine (DNS rebinding) shows in Host.

    Args:
        headers: Those of the request.
        any_name: Whether the endpoint may be called anything: with TLS its certificate says by
            which names a browser may reach it.

    Raises:
        Refusal: Such a page may have sent it.
    """
    origin = headers.get("Origin")
    names = [] if any_name else [f"//{host}" for host in headers.get_all("Host", [])]
    across = origin is None and headers.get("Sec-Fetch-Site") == "cross-site"
    if across or not all(map(_is_local, names if origin is None else [*names, origin])):
        text = "ERR only pages and names of this machine, such as http://localhost:3000, may ask"
        raise Refusal(text, HTTPStatus.FORBIDDEN)


def _is_local(url: str) -> bool:
    with suppress(ValueError):
        name = urlsplit(url).hostname or ""
        return is_loopback(name) or name.endswith(".localhost")
    return False
