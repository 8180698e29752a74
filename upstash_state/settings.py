"""Read the settings from the environment and check them; each complaint says what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .errors import MissingCredentialsError, SettingsError
from .texts import shown, type_name

URL_AND_TOKEN = (
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
    # Vercel's integration sets these; Upstash's JavaScript SDK falls back to them, too.
    ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
)
CREDENTIALS = tuple(name for pair in URL_AND_TOKEN for name in pair)
CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
WHERE = "copy it from your database's page on console.upstash.com, section REST API"
TOKEN_ADVICE = (
    f"the token must be the REST token of this URL's database, not its password for TCP: {WHERE}"
)
DOCTOR = "To find out more, run: upstash-state doctor"

# The minimum similarity at which one name may be a typing error for another.
ALIKE = 0.85

# Host and port. A label of a name has 1 to 63 characters (RFC 1035, section 2.3.4).
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_AUTHORITY = rf"({_LABEL}(?:\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?"
_LONGEST_HOST = 253


class Secret:
    """A text that only `reveal` returns.

    No log line, format, repr, copy, JSON, pickle or traceback with local variables shows the text.
    It is kept in a closure, where tools that read attributes do not find it.

    Args:
        text: The text, or a secret that holds it.
    """

    __slots__ = ("reveal",)

    def __init__(self, text: str | Secret) -> None:
        plain = text.reveal() if isinstance(text, Secret) else text
        #: Returns the text.
        self.reveal: Callable[[], str] = lambda: plain

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> str:
        # As the name of a global, this makes `copy` return the object itself, and `pickle` refuse
        # it, because the global with that name is another object.
        return "Secret"


class Settings:
    """The checked settings of the environment.

    Args:
        environ: The variables; None for `os.environ`.

    Attributes:
        url: The endpoint's URL, without a trailing slash.
        token: The REST token.
        timeout: Seconds that one call may take in all.
        ttl: Seconds until a saved order expires.
        prefix: The beginning of an order's key.
        skip_unchanged: Seconds for which an unchanged order is not sent again; 0 to always send
            it. At most half of `ttl`, because an order that is not sent again expires.
        catch_up: Whether a save or delete that failed stays pending and is sent later.
        background: Seconds for which changes are gathered before a worker thread sends them; 0 to
            send each in the caller's thread.
        restore_wait: Seconds for which a restore is tried again while the endpoint is unavailable.
        allow_http: Whether plain http may be used to hosts other than loopback.
        complaints: A sentence for each value that cannot be used, which the default replaces, and
            for each misspelt variable.

    Raises:
        MissingCredentialsError: No pair of URL and token is set.
        SettingsError: The URL or the token cannot be used. The message names the variable, but not
            its value.
    """

    timeout: float
    ttl: int
    prefix: str
    skip_unchanged: float
    catch_up: bool
    background: float
    restore_wait: float
    allow_http: bool

    def __init__(self, environ: Mapping[str, str | Secret] | None = None) -> None:
        self.complaints: list[str] = []
        environ = own_variables(environ)
        for name, (default, parse) in OPTIONS.items():
            value = default
            if text := _value(environ, name):
                try:
                    value = parse(text)
                except ValueError as error:
                    self.complaints.append(f"{name} is not {error} - {default!r} is used instead")
            setattr(self, name.removeprefix("UPSTASH_STATE_").lower(), value)
        if self.skip_unchanged > self.ttl / 2:
            self.skip_unchanged = self.ttl / 2
            self.complaints.append(
                "UPSTASH_STATE_SKIP_UNCHANGED is more than half of UPSTASH_STATE_TTL, so "
                f"orders could expire - {self.skip_unchanged!r} is used instead"
            )
        for name in environ:
            if near := misspelt(name):
                self.complaints.append(f"{name} is not a setting - did you mean {near}?")
        url_name, token_name = credentials(environ)
        self.url = check_url(environ[url_name], url_name, allow_http=self.allow_http)
        self.token = check_token(environ[token_name], token_name)


def own_variables(environ: Mapping[str, str | Secret] | None) -> dict[str, Secret]:
    """Return this package's variables, hidden from tracebacks with local variables.

    Args:
        environ: The variables, None for `os.environ`.
    """
    environ = os.environ if environ is None else environ
    return {
        name: Secret(environ[name])
        for name in environ
        if name in CREDENTIALS or name.startswith("UPSTASH_STATE_")
    }


def misspelt(name: str) -> str:
    """Return the setting that a variable's name resembles, or "" if it is a setting or unlike any.

    Args:
        name: The name of a variable.
    """
    if name in OPTIONS or not name.startswith("UPSTASH_STATE_"):
        return ""
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, OPTIONS, 1, ALIKE)), "")


def credentials(environ: Mapping[str, str | Secret]) -> tuple[str, str]:
    """Return the names of the variables that hold the URL and the token.

    Args:
        environ: The variables, as in `os.environ`.

    Raises:
        MissingCredentialsError: No pair of URL and token is set.
    """
    environ = own_variables(environ)
    states = {
        name: "set" if _value(environ, name) else "blank" if name in environ else "not set"
        for name in CREDENTIALS
    }
    # A URL and a token of different pairs are never combined, because the token must not be sent to
    # another database's host.
    for pair in URL_AND_TOKEN:
        if all(states[name] == "set" for name in pair):
            return pair
    touched = [pair for pair in URL_AND_TOKEN if any(name in environ for name in pair)]
    names = [name for pair in touched or URL_AND_TOKEN[:1] for name in pair]
    said = ", ".join(f"{name} is {states[name]}" for name in names)
    raise MissingCredentialsError(f"{said}: {WHERE}")


def check_url(url: str | Secret, name: str = "url", *, allow_http: bool = False) -> str:
    """Check the endpoint's URL, and return it without quotes and slashes at its end.

    Args:
        url: The URL as the user pasted it, perhaps with quotes or white space around it.
        name: The URL's name in the error message.
        allow_http: Whether plain http may be used to hosts other than loopback.

    Raises:
        SettingsError: It is not the URL of a REST endpoint, or not a safe one. The message does not
            repeat the URL, because users may paste passwords and tokens into it.
    """
    # A secret, because this frame is part of the traceback.
    url = Secret(url)
    if wrong := _wrong_text(url.reveal()) or _wrong_url(unquoted(url.reveal()), allow_http):
        raise SettingsError(f"{name} {wrong}")
    return unquoted(url.reveal()).rstrip("/")


def check_token(token: str | Secret, name: str = "token") -> Secret:
    """Check the token, and return it without quotes and white space around it.

    Args:
        token: The token as the user pasted it.
        name: The token's name in the error message.

    Raises:
        SettingsError: It is empty, or has characters that an Authorization header cannot hold (RFC
            6750, section 2.1, allows fewer characters). The message does not repeat the token.
    """
    token = Secret(token)
    if wrong := _wrong_text(token.reveal()) or _wrong_token(unquoted(token.reveal())):
        raise SettingsError(f"{name} {wrong}")
    return Secret(unquoted(token.reveal()))


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, so that requests to it never leave the machine."""
    from ipaddress import ip_address

    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def proxy_of(url: str) -> str | None:
    """Return the URL of the proxy that the environment names for an endpoint, or None.

    The proxy is the one that requests would use (HTTPS_PROXY, ALL_PROXY, NO_PROXY and the
    platform's own settings). Loopback never has a proxy, because plain http would then send the
    token over the network.
    """
    from urllib.parse import urlsplit

    from requests.utils import get_environ_proxies, select_proxy

    if is_loopback(urlsplit(url).hostname or ""):
        return None
    proxy = select_proxy(url, get_environ_proxies(url))
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


def ca_bundle() -> tuple[str, str] | None:
    """Return the CA bundle that the environment names.

    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE take precedence, as in requests. SSL_CERT_FILE, which
    OpenSSL reads and requests does not, comes last. An empty variable is skipped.

    Returns:
        The variable's name and its value, or None for the bundle that requests uses (certifi).
    """
    for name in CA_BUNDLES:
        if value := os.environ.get(name):
            return name, value
    return None


def unquoted(text: str) -> str:
    """Return a variable's value without the quotes and white space around it."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _value(environ: Mapping[str, Secret], name: str) -> str:
    return unquoted(environ[name].reveal()) if name in environ else ""


# These functions return a complaint instead of raising it, so that no traceback has a frame with
# the text.
def _wrong_text(text: object) -> str:
    if not isinstance(text, str):
        return f"must be str, not {type_name(text)}: {WHERE}"
    # The user has pasted a whole line of .env, or a reference was not resolved.
    named = next((variable for variable in CREDENTIALS if variable in text), "")
    return named and f"contains the name {named}: set it to the value alone"


def _wrong_url(url: str, allow_http: bool) -> str:
    scheme, _, rest = url.rstrip("/").partition("://")
    authority, _, path = rest.partition("/")
    scheme = scheme.lower()
    if scheme in ("redis", "rediss"):
        return (
            f"is the address for Redis over TCP ({scheme}://...); "
            f"the REST API's begins with https://: {WHERE}"
        )
    if re.fullmatch("[A-Za-z0-9+/=_-]{20,}", url):
        return f"looks like a token, not like a URL that begins with https://: {WHERE}"
    if scheme not in ("http", "https") or not authority:
        return f"is not a URL that begins with https://: {WHERE}"
    if "@" in authority:
        return (
            "contains a user or password, which would end up in logs; "
            f"the REST API takes a token, in its own variable: {WHERE}"
        )
    if "?" in url or "#" in url:
        return f"has a query or fragment (? or #): {WHERE}"
    host, port = _host_and_port(authority)
    if not host or not 0 < port < 65536:
        return f"has an invalid host or port: {WHERE}"
    if not re.fullmatch("(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*", path):
        return f"has an invalid character in its path: {WHERE}"
    if scheme == "http" and not (allow_http or is_loopback(host)):
        return (
            "begins with http://, which would send the token in clear text: use https://, "
            "or set UPSTASH_STATE_ALLOW_HTTP=1 if the network in between is your own"
        )
    return ""


def _wrong_token(token: str) -> str:
    if not token:
        return f"is empty: {WHERE}"
    if "bearer " in token.lower():
        return 'contains "Bearer ": set it to the token alone'
    if "://" in token:
        return f"is a URL, not a token: {WHERE}"
    if not token.isascii() or not token.isprintable() or " " in token:
        return f"contains characters that a header cannot carry: {WHERE}"
    return ""


def _host_and_port(authority: str) -> tuple[str, int]:
    from ipaddress import IPv6Address

    match = re.fullmatch(_AUTHORITY, authority, re.ASCII | re.IGNORECASE)
    host = match[1].lower() if match else ""
    with suppress(ValueError):
        if host.startswith("["):
            host = str(IPv6Address(host[1:-1]))
        if match and len(host) <= _LONGEST_HOST:
            return host, int(match[2] or 443)
    return "", 0


def _flag(text: str) -> bool:
    if text in ("0", "1"):
        return text == "1"
    raise ValueError("1 (yes) or 0 (no)")


def _seconds_or_zero(text: str) -> float:
    with suppress(ValueError):
        # More than a year is a typing error, and sockets refuse times that are too long for them.
        if 0 <= (seconds := float(text)) <= 31_536_000:
            return seconds
    raise ValueError("a number of seconds from 0 (off) to 31536000, such as 60")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if seconds := _seconds_or_zero(text):
            return seconds
    raise ValueError("a number of seconds above 0, at most 31536000, such as 5 or 2.5")


def _ttl(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 11 and int(text) > 0:
        return int(text)
    raise ValueError("a whole number of seconds from 1 to 9999999999, such as 604800")


def _prefix(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text in UTF-8, such as order:") from None
    return text


#: For each variable, its default, and a function that reads it. The function raises ValueError with
#: a description of valid values.
OPTIONS: Mapping[str, tuple[Any, Callable[[str], Any]]] = {
    "UPSTASH_STATE_TIMEOUT": (5.0, _seconds),
    "UPSTASH_STATE_TTL": (604_800, _ttl),
    "UPSTASH_STATE_PREFIX": ("order:", _prefix),
    "UPSTASH_STATE_SKIP_UNCHANGED": (0.0, _seconds_or_zero),
    "UPSTASH_STATE_CATCH_UP": (True, _flag),
    "UPSTASH_STATE_BACKGROUND": (0.0, _seconds_or_zero),
    "UPSTASH_STATE_RESTORE_WAIT": (0.0, _seconds_or_zero),
    "UPSTASH_STATE_ALLOW_HTTP": (False, _flag),
}


def check_option(name: str, value: Any) -> Any:
    """Check a setting that was passed as an argument, by the same rule as its variable.

    Args:
        name: The argument's name, such as "ttl".
        value: Its value.

    Returns:
        The value, of the default's type.

    Raises:
        SettingsError: It has a wrong type or value.
    """
    default, parse = OPTIONS[f"UPSTASH_STATE_{name.upper()}"]
    if type(value) is type(default) is bool:
        return value
    text, said = "\ud800", type_name(value)  # A lone surrogate is invalid for every setting.
    if not isinstance(value, bool) and isinstance(value, str) == isinstance(default, str):
        with suppress(Exception):
            text = str.__str__(value) if isinstance(value, str) else str(value)
            said = shown(text, 40) if isinstance(value, (str, int, float)) else said
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{name} is not {error}: {said}") from None
