"""Environment -> Settings, with a complaint that says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, SupportsIndex

from .errors import MissingCredentialsError, SettingsError

URL_AND_TOKEN = (
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
    # What Vercel's integration sets; Upstash's JavaScript SDK falls back to these, too.
    ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
)
CREDENTIALS = tuple(name for pair in URL_AND_TOKEN for name in pair)
CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
WHERE = "copy it from your database's page on console.upstash.com, section REST API"
TOKEN_ADVICE = (
    f"the token must be the REST token of this URL's database, not its password for TCP: {WHERE}"
)
DOCTOR = "To find out more, run: upstash-state doctor"


class Secret(str):
    """Text that a log, a repr or a traceback with local variables does not show.

    Nor is a slice of it shown: some loggers cut long texts before they ask for the repr. Where the
    text itself is needed, it is added to another: `"Bearer " + secret`.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Secret:
        # Of a secret, too, whose own `str` hides it.
        return super().__new__(cls, "" + text)

    def __repr__(self) -> str:
        return "'***'"

    def __str__(self) -> str:
        return "***"

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        return Secret(super().__getitem__(key))


class Settings:
    """What the environment says, checked.

    Attributes:
        url: Where the endpoint is, without a trailing slash.
        token: The REST token.
        timeout: Seconds that one call may take in all.
        ttl: Seconds until a saved order expires.
        prefix: What an order's key begins with.
        skip_unchanged: Seconds for which an unchanged order is not sent again, 0 for never. At most
            half of `ttl`, since an order that is not sent again expires.
        catch_up: Whether a save or delete that failed is kept and sent later.
        background: Seconds for which changes are gathered before a worker thread sends them, 0 for
            sending each in the caller's thread.
        restore_wait: Seconds for which a restore keeps trying while the endpoint is unavailable.
        allow_http: Whether plain http may go to hosts other than loopback.
        complaints: Values that could not be used, a sentence each; defaults stand in for them.
    """

    timeout: float
    ttl: int
    prefix: str
    skip_unchanged: float
    catch_up: bool
    background: float
    restore_wait: float
    allow_http: bool

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the settings.

        Args:
            environ: The variables, as in `os.environ`.

        Raises:
            MissingCredentialsError: No pair of URL and token is set.
            SettingsError: URL or token cannot be used. The text names the variable and never
                holds its value.
        """
        self.complaints: list[str] = []
        # A traceback with local variables shows no values of these.
        environ = own_variables(environ)
        for name, (default, parse) in OPTIONS.items():
            value = default
            if text := unquoted(environ.get(name, "")):
                try:
                    value = parse(text)
                except ValueError as error:
                    self.complaints.append(f"{name} is not {error} - {default!r} is used instead")
            setattr(self, name.removeprefix("UPSTASH_STATE_").lower(), value)
        if self.skip_unchanged > self.ttl / 2:
            self.skip_unchanged = self.ttl / 2
            self.complaints.append(
                "UPSTASH_STATE_SKIP_UNCHANGED is more than half of UPSTASH_STATE_TTL, so that "
                f"orders could expire - {self.skip_unchanged!r} is used instead"
            )
        url_name, token_name = credentials(environ)
        self.url = check_url(environ[url_name], url_name, allow_http=self.allow_http)
        self.token = check_token(environ[token_name], token_name)


def own_variables(environ: Mapping[str, str] | None) -> dict[str, str]:
    """This package's variables, in a form that a traceback with local variables does not show.

    Args:
        environ: The variables; None for `os.environ`.
    """
    environ = os.environ if environ is None else environ
    names = (*OPTIONS, *CREDENTIALS)
    return {name: Secret(environ[name]) for name in names if name in environ}


def credentials(environ: Mapping[str, str]) -> tuple[str, str]:
    """The names of the variables that URL and token are taken from.

    Args:
        environ: The variables, as in `os.environ`.

    Raises:
        MissingCredentialsError: No pair of URL and token is set.
    """
    # By pairs, never mixed: a token must not be sent to another database's host.
    states = {
        name: "set"
        if unquoted(environ.get(name, ""))
        else "blank"
        if name in environ
        else "not set"
        for name in CREDENTIALS
    }
    touched: list[str] = []
    for pair in URL_AND_TOKEN:
        if all(states[name] == "set" for name in pair):
            return pair
        if any(states[name] != "not set" for name in pair):
            touched += pair
    said = ", ".join(f"{name} is {states[name]}" for name in touched or URL_AND_TOKEN[0])
    raise MissingCredentialsError(f"{said}: {WHERE}")


def check_url(text: str, name: str = "url", *, allow_http: bool = False) -> str:
    """The endpoint's address in the one form that requests are built from.

    Args:
        text: The address as somebody pasted it; quotes, white space and slashes around it go.
        name: What to call it in a complaint.
        allow_http: Whether plain http may go to hosts other than loopback.

    Raises:
        SettingsError: It is not the address of a REST endpoint, or not a safe one. The text does
            not repeat the address, since passwords are pasted into it.
    """
    from urllib.parse import urlsplit

    url = _value_alone(text, name).rstrip("/")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"{name} has an invalid host or port: {WHERE}") from None
    if parts.scheme in ("redis", "rediss"):
        raise SettingsError(
            f"{name} is the address for Redis over TCP ({parts.scheme}://...), "
            f"the REST API's begins with https://: {WHERE}"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError(f"{name} is not a URL that begins with https://: {WHERE}")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"{name} contains a user or password, which would end up in logs; "
            f"the REST API takes a token in a variable of its own: {WHERE}"
        )
    if port == 0 or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise SettingsError(f"{name} contains an invalid character or port: {WHERE}")
    if "?" in url or "#" in url:
        raise SettingsError(f"{name} has a query or fragment (? or #): {WHERE}")
    if parts.scheme == "http" and not (allow_http or is_loopback(host)):
        raise SettingsError(
            f"{name} begins with http://, which would send the token in clear: use https://, "
            "or set UPSTASH_STATE_ALLOW_HTTP=1 if the network in between is your own"
        )
    return url


def check_token(text: str, name: str = "token") -> Secret:
    """The token in a form that a header can carry.

    Args:
        text: The token as somebody pasted it; quotes and white space around it go.
        name: What to call it in a complaint.

    Raises:
        SettingsError: It is empty, or contains what an Authorization header cannot carry (RFC 6750,
            section 2.1, allows less than this lets through).
    """
    text = Secret(text) if isinstance(text, str) else text
    token = Secret(_value_alone(text, name))
    if not token:
        raise SettingsError(f"{name} is empty: {WHERE}")
    if "bearer " in token.lower():
        raise SettingsError(f'{name} contains "Bearer ": set it to the token alone')
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"{name} contains characters that a header cannot carry: {WHERE}")
    return token


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    from ipaddress import ip_address

    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def proxy_of(url: str) -> str | None:
    """The address of the proxy that the environment names for an endpoint, None for none.

    Chosen as requests does (HTTPS_PROXY, ALL_PROXY, NO_PROXY and the platform's own settings), but
    never for loopback: plain http through a proxy would send the token over the network.
    """
    from urllib.parse import urlsplit

    from requests.utils import get_environ_proxies, select_proxy

    if is_loopback(urlsplit(url).hostname or ""):
        return None
    proxy = select_proxy(url, get_environ_proxies(url))
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy or None


def ca_bundle() -> tuple[str, str] | None:
    """Find the CA bundle that the environment names.

    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE as requests reads them, then SSL_CERT_FILE, which OpenSSL
    reads and requests does not. A variable that is set to nothing is skipped.

    Returns:
        The variable's name and its value, or None for the bundle of requests itself (certifi).
    """
    for name in CA_BUNDLES:
        if value := os.environ.get(name):
            return name, value
    return None


def unquoted(text: str) -> str:
    """A variable's value without the quotes and white space that were pasted around it."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _value_alone(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise SettingsError(f"{name} must be str, not {type(text).__name__}: {WHERE}")
    for variable in CREDENTIALS:
        # A line of .env pasted whole, or a reference that nobody has resolved.
        if variable in text:
            raise SettingsError(f"{name} contains the name {variable}: set it to the value alone")
    return unquoted(text)


def _flag(text: str) -> bool:
    if text in ("0", "1"):
        return text == "1"
    raise ValueError("1 (yes) or 0 (no)")


def _seconds_or_zero(text: str) -> float:
    with suppress(ValueError):
        # More than a year is a slip, and sockets refuse what does not fit their clock.
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


#: Of each variable its default, and what reads it or raises ValueError with what it should be.
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
