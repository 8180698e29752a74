"""Findings of the doctor, and what to do about an error of the client."""

from contextlib import suppress
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ... import UpstashRedis, errors
from ...settings import TOKEN_ADVICE, WHERE, Settings, proxy_of

LATER = "try again later; status.upstash.com shows known problems"
LIMITED = (
    "too many requests in a short time: see what else uses the database, or choose a larger plan"
)
_URL = "check the URL, with https:// and the port (Upstash's has none)"
_OTHER = (
    "something else answers there, such as a proxy or a login page: check the URL, and whether "
    "this network allows HTTPS to it"
)
_CLOCK = "check this machine's clock; if it is right, the server is not Upstash's"
_PROXY = "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, and that the proxy works"
# By OpenSSL's text about a certificate.
_CERTIFICATE = {
    "certificate has expired": _CLOCK,
    "certificate is not yet valid": _CLOCK,
    "mismatch": "check the URL's host: the server there has another name",
}
# By the error's class or reason ("refused" for any other refusal).
_ADVICE = {
    "AuthenticationError": TOKEN_ADVICE,
    "NoPermissionError": f"this is the read-only token: {WHERE}, the one without Read-Only",
    "QuotaExceededError": "wait for the new day or month, or choose a larger plan on "
    "console.upstash.com; UPSTASH_STATE_SKIP_UNCHANGED saves commands",
    "CapacityExceededError": "delete old orders (upstash-state delete --older-than 7d), or choose "
    "a larger plan on console.upstash.com",
    "SlowDownError": LIMITED,
    "refused": "look the text up at upstash.com/docs/redis/troubleshooting",
    "dns": "check the URL's host for typing errors, that the database still exists, and this "
    "machine's network and name server",
    "connect": "check the URL's host and port (if it is `upstash-state serve`, start it), and "
    "whether this network lets HTTPS out or needs a proxy (HTTPS_PROXY)",
    "tls": _URL,
    "certificate": "if your network inspects TLS, point REQUESTS_CA_BUNDLE to its certificate; "
    "otherwise the server is not Upstash's",
    "timeout": "try again; if it fails again, a firewall may drop it (let HTTPS out, or name your "
    "proxy in HTTPS_PROXY), or the network is slow (set UPSTASH_STATE_TIMEOUT to more seconds)",
    "closed": f"{_URL}; if it is right, {LATER}",
    "not-http": _URL,
    "answer": _OTHER,
    "too-large": _OTHER,
    "local": "correct it on this machine",
}


class Finding(NamedTuple):
    """One finding. The report ends with the first one that is wrong.

    Attributes:
        state: "warning" if it works now, but may fail later.
        found: What was found.
        advice: What to do about it, "" for nothing.
        check: The name of its row; "" for the current check.
    """

    state: Literal["ok", "warning", "wrong"]
    found: str
    advice: str = ""
    check: str = ""


def wrong(text: str, check: str = "") -> Finding:
    """Return the finding that a text such as `URL is blank: copy it from …` describes."""
    found, _, advice = text.partition(": ")
    return Finding("wrong", found, advice or WHERE, check)


def explain(error: errors.UpstashError, settings: Settings) -> Finding:
    """Return the finding that explains why a request failed.

    Args:
        error: The request's error.
        settings: The settings with which it was sent.
    """
    found = str(error)
    reason: str = getattr(error, "reason", "refused")
    if path := urlsplit(settings.url).path.strip("/"):
        # A server may repeat the path, and people paste tokens into it.
        found = found.replace(path, "***")
        if reason in ("refused", "answer", "status") and _works_without_path(settings):
            found = f"the path after the host is wrong; the endpoint works without it ({found})"
            return Finding("wrong", found, "remove the path", "URL")
    elsewhere = reason in ("connect", "closed", "not-http", "timeout") and proxy_of(settings.url)
    if elsewhere or reason == "proxy" or "the proxy" in found:
        return Finding("wrong", found, _PROXY, "proxy")
    if reason == "status" and not getattr(error, "transient", False):
        reason = "answer"
    words = _CERTIFICATE if reason == "certificate" else {}
    advice = [text for said, text in words.items() if said in found]
    advice += [_ADVICE[key] for key in (type(error).__name__, reason) if key in _ADVICE]
    return Finding("wrong", found, [*advice, LATER][0])


def _works_without_path(settings: Settings) -> bool:
    settings.url = urlsplit(settings.url)._replace(path="").geturl()
    with suppress(errors.UpstashError), UpstashRedis.from_settings(settings) as client:
        return client.ping()
    return False
