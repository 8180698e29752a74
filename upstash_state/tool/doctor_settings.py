"""The doctor's look at the environment: which variables are set, and whether they can be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ..errors import SettingsError
from ..settings import CREDENTIALS, URL_AND_TOKEN, WHERE, Settings, unquoted
from .doctor_finding import Finding, Wrong, ok, warning

# Not the REST API's address but a page for people, which is open in the browser when one copies.
CONSOLE = "console.upstash.com"


def variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which variables are set.

    Raises:
        Wrong: No pair of URL and token is.
    """
    is_set = {name: bool(unquoted(environ.get(name, ""))) for name in CREDENTIALS}
    pair = next((pair for pair in URL_AND_TOKEN if all(map(is_set.__getitem__, pair))), None)
    if pair is None:
        raise Wrong(_what_is_missing(environ, is_set), f"{WHERE}, both of one database")
    yield ok(f"{pair[0]} and {pair[1]} are set")
    others = [name for name in CREDENTIALS if is_set[name] and name not in pair]
    if others:
        yield warning(
            f"{' and '.join(others)} too: not used",
            f"unset what the app does not need; {pair[0]} and {pair[1]} count",
        )
    for name in pair:
        if environ[name] != unquoted(environ[name]):
            yield warning(
                f"{name} has quotes or white space around it, ignored here",
                "take them away: other programs take them for a part of the value",
            )


def form(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether URL, token and the other settings have the right form.

    Raises:
        Wrong: URL or token has not.
    """
    try:
        settings = Settings(environ)
    except SettingsError as error:
        found, _, advice = str(error).partition(": ")
        raise Wrong(found, advice) from None
    url = urlsplit(settings.url)
    if url.hostname == CONSOLE:
        raise Wrong(f"the URL is that of the console ({CONSOLE})", WHERE)
    # Without a path, into which people paste tokens.
    yield ok(f"{url.scheme}://{url.netloc}")
    for complaint in settings.complaints:
        found, _, default = complaint.rpartition(" - ")
        yield warning(found, f"correct it; until then, {default}")


def _what_is_missing(environ: Mapping[str, str], is_set: Mapping[str, bool]) -> str:
    there = [name for name in CREDENTIALS if is_set[name]]
    blank = [name for name in CREDENTIALS if name in environ and not is_set[name]]
    if not there and not blank:
        return f"neither {' and '.join(URL_AND_TOKEN[0])} nor {' and '.join(URL_AND_TOKEN[1])}"
    lacking = [
        name
        for pair in URL_AND_TOKEN
        if any(name in there or name in blank for name in pair)
        for name in pair
        if not is_set[name]
    ]
    said = [f"{name} is {'blank' if name in blank else 'not set'}" for name in lacking]
    return ", ".join([*(f"{name} is set" for name in there), *said])
