"""What to do about an error of the client, by its class or its reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import urlsplit

from ... import errors
from ...settings import TOKEN_ADVICE, WHERE, proxy_of
from .finding import Wrong

_BY_CLASS: dict[type[errors.UpstashError], str] = {
    errors.AuthenticationError: TOKEN_ADVICE,
    errors.NoPermissionError: f"this is the read-only token: {WHERE}, the one without Read-Only",
    errors.QuotaExceededError: "wait for the new day or month, or choose a larger plan on "
    "console.upstash.com; UPSTASH_STATE_SKIP_UNCHANGED saves commands",
    errors.CapacityExceededError: "delete what is not needed (upstash-state delete --older-than "
    "7d), or choose a larger plan on console.upstash.com",
    errors.UpstashError: "look the text up at upstash.com/docs/redis/troubleshooting",
}
_URL = "check the URL, https:// and port included (Upstash's has none)"
_LATER = "try again later; status.upstash.com says whether it is known"
_OTHER = (
    "something else answers there, such as a proxy's or a login page: check the URL, and whether "
    "this network lets HTTPS to it through"
)
_BY_REASON: dict[errors.Reason, str] = {
    "dns": "check the URL's host for slips, that the database still exists, and this machine's "
    "network and name server",
    "connect": "check the URL's host and port (if it is `upstash-state serve`, start it), and "
    "whether this network lets HTTPS out or wants a proxy (HTTPS_PROXY)",
    "tls": _URL,
    "certificate": "if your network inspects TLS, point REQUESTS_CA_BUNDLE to its certificate; "
    "otherwise the server is not Upstash's",
    "proxy": "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, and that the proxy works",
    "timeout": "try again; if it stays, a firewall swallows it (let HTTPS out, or name your proxy "
    "in HTTPS_PROXY), or the way is slow (UPSTASH_STATE_TIMEOUT gives it more seconds)",
    "closed": f"{_URL}; if it is right, {_LATER}",
    "not-http": _URL,
    "answer": _OTHER,
    "too-large": _OTHER,
    "local": "correct it on this machine (certificates to trust: REQUESTS_CA_BUNDLE)",
}
# What OpenSSL says of a certificate, and what it means.
_CERTIFICATES = {
    "expired": "check this machine's clock; if it is right, the server is not Upstash's",
    "not yet valid": "check this machine's clock; if it is right, the server is not Upstash's",
    "mismatch": "check the URL's host: the server there has another name",
}
# Variables that name files.
_FILES = ("SSLKEYLOGFILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def wrong(error: errors.UpstashError, url: str, environ: Mapping[str, str]) -> Wrong:
    """What a failed request says about the set-up.

    Args:
        error: What it failed with.
        url: Where it was sent.
        environ: The variables, as in `os.environ`.
    """
    found = str(error)
    if path := urlsplit(url).path.strip("/"):
        # A server may repeat it, and people paste tokens into it.
        found = found.replace(path, "***")
    if not isinstance(error, errors.UnavailableError):
        return Wrong(found, next(a for kind, a in _BY_CLASS.items() if isinstance(error, kind)))
    reason = error.reason
    proxy = proxy_of(url)
    if proxy and proxy.startswith("socks") and find_spec("socks") is None:
        found = "the proxy is one for SOCKS, and PySocks is missing"
        return Wrong(found, "pip install 'requests[socks]'")
    for name in _FILES:
        try:
            file = environ.get(name)
            # A log is made where there is none, and certificates may be a directory.
            if file and url.startswith("https") and not os.path.isdir(file):
                flags = os.O_WRONLY | os.O_CREAT if "LOG" in name else os.O_RDONLY
                os.close(os.open(file, flags, 0o600))
        except OSError as problem:
            found = f"the file that {name} names cannot be opened: {problem.strerror}"
            return Wrong(found, f"correct or unset {name}")
    if reason == "certificate":
        known = (advice for words, advice in _CERTIFICATES.items() if words in found)
        return Wrong(found, next(known, _BY_REASON[reason]))
    if proxy and (reason in ("connect", "closed", "not-http", "timeout") or "proxy" in found):
        reason = "proxy"
    if reason == "status" and not error.transient:
        reason = "answer"
    return Wrong(found, _BY_REASON.get(reason, _LATER))
