"""Environment -> Settings, with a complaint that says what to do."""

from __future__ import annotations

from math import isfinite

from .errors import MissingCredentialsError, SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    T = TypeVar("T")

URL_AND_TOKEN = (
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
    # What Vercel's integration sets; Upstash's JavaScript SDK falls back to these, too.
    ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
)
WHERE = "copy it from your database's page on console.upstash.com, section REST API"


class Secret(str):
    """Text that a log, a repr or a traceback with local variables does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Settings:
    """What the environment says, checked.

    Attributes:
        url: Where the endpoint is, without a trailing slash.
        token: The REST token.
        timeout: Seconds that one call may take in all.
        ttl: Seconds until a saved order expires.
        prefix: What an order's key begins with.
        skip_unchanged: Seconds for which an unchanged order is not sent again, 0 for never. At most
            half of `ttl`: an order that is never sent expires.
        catch_up: Whether a save or delete that failed is kept and sent later.
        background: Seconds for which changes are gathered before a worker thread sends them, 0 for
            sending each in the caller's thread.
        restore_wait: Seconds for which a restore keeps trying while the endpoint is unavailable.
        allow_http: Whether plain http may go to hosts other than loopback.
        complaints: Values that could not be used, a sentence each; defaults stand in for them.
    """

    __slots__ = (
        "allow_http",
        "background",
        "catch_up",
        "complaints",
        "prefix",
        "restore_wait",
        "skip_unchanged",
        "timeout",
        "token",
        "ttl",
        "url",
    )

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
        self.allow_http: bool = self._read(environ, "UPSTASH_STATE_ALLOW_HTTP", False, _flag)
        url_name, token_name = _credentials(environ)
        self.url = check_url(environ[url_name], url_name, allow_http=self.allow_http)
        self.token = check_token(environ[token_name], token_name)
        self.timeout: float = self._read(environ, "UPSTASH_STATE_TIMEOUT", 5.0, _seconds)
        self.ttl: int = self._read(environ, "UPSTASH_STATE_TTL", 604_800, _ttl)
        self.prefix: str = self._read(environ, "UPSTASH_STATE_PREFIX", "order:", _prefix)
        self.skip_unchanged: float = self._read(
            environ, "UPSTASH_STATE_SKIP_UNCHANGED", 0.0, _seconds_or_zero
        )
        self.catch_up: bool = self._read(environ, "UPSTASH_STATE_CATCH_UP", True, _flag)
        self.background: float = self._read(
            environ, "UPSTASH_STATE_BACKGROUND", 0.0, _seconds_or_zero
        )
        self.restore_wait: float = self._read(
            environ, "UPSTASH_STATE_RESTORE_WAIT", 0.0, _seconds_or_zero
        )

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r}, token={self.token!r})"

    def _read(
        self, environ: Mapping[str, str], name: str, default: T, parse: Callable[[str], T]
    ) -> T:
        text = _unquoted(environ.get(name, ""))
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.complaints.append(f"{name} is not {error} - {default!r} is used instead")
            return default


def check_url(text: str, name: str = "url", *, allow_http: bool = False) -> str:
    """The endpoint's address in the one form that requests are built from.

    Args:
        text: The address as somebody pasted it; quotes, white space and slashes around it go.
        name: What to call it in a complaint.
        allow_http: Whether plain http may go to hosts other than loopback.

    Raises:
        SettingsError: It is no address of a REST endpoint, or not a safe one. The text does not
            repeat the address, since passwords are pasted into it.
    """
    from urllib.parse import urlsplit

    url = _unquoted(text).rstrip("/")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"{name} has a host or port that is none: {WHERE}") from None
    if parts.scheme in ("redis", "rediss"):
        raise SettingsError(
            f"{name} is the address for Redis over TCP ({parts.scheme}://...), "
            f"the REST API's begins with https://: {WHERE}"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError(f"{name} is no URL that begins with https://: {WHERE}")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"{name} holds a user or password, which would end up in logs; "
            f"the REST API takes a token in a variable of its own: {WHERE}"
        )
    if port == 0 or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise SettingsError(f"{name} holds a character or port that no URL can have: {WHERE}")
    if "?" in url or "#" in url:
        raise SettingsError(f"{name} goes on after the address (? or #): {WHERE}")
    if parts.scheme == "http" and not (allow_http or is_loopback(host)):
        raise SettingsError(
            f"{name} begins with http://, which would send the token in clear: use https://, "
            "or set UPSTASH_STATE_ALLOW_HTTP=1 if the network in between is your own"
        )
    return url


def check_token(text: str, name: str = "token") -> Secret:
    """The token in a form that a header can hold.

    Args:
        text: The token as somebody pasted it; quotes and white space around it go.
        name: What to call it in a complaint.

    Raises:
        SettingsError: It is empty, or holds what an Authorization header cannot (RFC 6750,
            section 2.1, allows less than this lets through).
    """
    token = Secret(_unquoted(text))
    if not token:
        raise SettingsError(f"{name} is empty: {WHERE}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"{name} holds characters that no HTTP header can: {WHERE}")
    return token


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(environ: Mapping[str, str]) -> tuple[str, str]:
    # By pairs, never mixed: a token must not be sent to another database's host.
    for pair in URL_AND_TOKEN:
        if all(_unquoted(environ.get(name, "")) for name in pair):
            return pair
    raise MissingCredentialsError(
        f"{URL_AND_TOKEN[0][0]} and {URL_AND_TOKEN[0][1]} are not both set: {WHERE}"
    )


def _unquoted(text: str) -> str:
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def _flag(text: str) -> bool:
    if text in ("0", "1"):
        return text == "1"
    raise ValueError("1 (yes) or 0 (no)")


def _seconds_or_zero(text: str) -> float:
    seconds = _number(text)
    if seconds < 0:
        raise ValueError("a number of seconds, such as 60, or 0 for never")
    return seconds


def _seconds(text: str) -> float:
    seconds = _number(text)
    if seconds <= 0:
        raise ValueError("a number of seconds above 0, such as 5 or 2.5")
    return seconds


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    # A year: longer means a slip, and sockets refuse what does not fit their clock.
    return number if isfinite(number) and number <= 31_536_000 else float("-inf")


def _ttl(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 11 and int(text) > 0:
        return int(text)
    raise ValueError("a whole number of seconds above 0, such as 604800")


def _prefix(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text in UTF-8, such as order:") from None
    return text
