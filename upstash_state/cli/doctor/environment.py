"""The doctor's look at the environment: which variables are set, and whether they can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import MissingCredentialsError, SettingsError
from ...settings import CREDENTIALS, OPTIONS, WHERE, Settings, credentials, unquoted
from .finding import Finding, Wrong, ok, warning

# Not the REST API's address but a page for people, which is open in the browser when one copies.
CONSOLE = "console.upstash.com"
# What .env.example has in place of a URL and a token.
PLACEHOLDERS = {"https://example-12345.upstash.io", "replace-me"}
# Redis over TCP, and over TLS, as its own documentation and those of hosters have it.
REDIS_PORTS = (6379, 6380)
# Nearer than UPSTASH_REDIS_URL is, which is a name of the TCP address, to UPSTASH_REDIS_REST_URL.
ALIKE = 0.85
LOAD = "nothing loads it: set -a; . ./.env; set +a"


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which variables are set.

    Raises:
        Wrong: No pair of URL and token is.
    """
    try:
        pair = credentials(environ)
    except MissingCredentialsError as error:
        found, _, advice = str(error).partition(": ")
        raise Wrong(found, _from_file() or _misspelt(environ) or advice) from None
    for name in pair:
        if unquoted(environ[name]) in PLACEHOLDERS:
            raise Wrong(f"{name} is the placeholder of .env.example", WHERE)
    yield ok(f"{pair[0]} and {pair[1]} are set")
    others = [n for n in CREDENTIALS if unquoted(environ.get(n, "")) and n not in pair]
    if others:
        advice = f"unset what the app does not need; {pair[0]} and {pair[1]} count"
        yield warning(f"{' and '.join(others)} too: not used", advice)
    for name in pair:
        if environ[name] != unquoted(environ[name]):
            advice = "remove them: other programs take them for a part of the value"
            yield warning(f"{name} has quotes or white space around it, ignored here", advice)


def url(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether URL and token have the right form.

    Raises:
        Wrong: One of them has not.
    """
    try:
        address = urlsplit(Settings(environ).url)
    except SettingsError as error:
        found, _, advice = str(error).partition(": ")
        raise Wrong(found, advice) from None
    if address.hostname == CONSOLE:
        raise Wrong(f"the URL is that of the console ({CONSOLE})", WHERE)
    # Without a path, into which people paste tokens.
    yield ok(f"{address.scheme}://{address.netloc}")
    if address.port in REDIS_PORTS:
        advice = "leave the port out: Upstash's REST API is at https's own, 443"
        yield warning(f"port {address.port} is usually Redis's own, without HTTP", advice)
    if address.path:
        advice = f"Upstash's has none, so unless your own gateway wants it: {WHERE}"
        yield warning("the URL has a path after the host", advice)


def settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which of the app's other settings are set, unusable, or unknown."""
    complaints = Settings(environ).complaints
    names = [name for name in OPTIONS if unquoted(environ.get(name, ""))]
    yield ok(f"set: {', '.join(names)}; else the defaults" if names else "the defaults")
    for complaint in complaints:
        found, _, default = complaint.rpartition(" - ")
        yield warning(found, f"correct it; until then, {default}")
    for name in environ:
        if name.startswith("UPSTASH_STATE_") and name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, 1, ALIKE)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(OPTIONS)}"
            yield warning(f"{name} is not a setting: not used", advice)


def _from_file() -> str:
    """What to do if the variables are in a file .env of this directory, "" if they are not."""
    text = ""
    with suppress(OSError):
        text = Path(".env").read_text(encoding="utf-8", errors="replace")
    there = dict(re.findall(r"^\s*(?:export\s+)?(\w+)\s*=\s*(.*?)\s*$", text, re.M))
    try:
        pair = credentials(there)
    except MissingCredentialsError:
        return ""
    if PLACEHOLDERS & {unquoted(there[name]) for name in pair}:
        return f"replace the placeholders in .env here ({WHERE}); then load it, since {LOAD}"
    return f"the file .env here sets them, but {LOAD}"


def _misspelt(environ: Mapping[str, str]) -> str:
    for name in environ:
        near = get_close_matches(name, CREDENTIALS, 1, ALIKE)
        if near and name not in CREDENTIALS:
            return f"{name} is set; did you mean {near[0]}? {WHERE}"
    return ""
