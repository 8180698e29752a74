"""The doctor's checks of the environment: which variables are set, and whether they can be used."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from urllib.parse import urlsplit

from ... import MissingCredentialsError, SettingsError
from ... import settings as package
from ...settings import (
    ALIKE,
    CREDENTIALS,
    OPTIONS,
    URL_AND_TOKEN,
    WHERE,
    Settings,
    misspelt,
    unquoted,
)
from .advice import Finding, wrong

# The ports of Redis over TCP and over TLS, in Redis's and hosters' documentation.
REDIS_PORTS = (6379, 6380)
LOAD = (
    "unless the app loads it, set the variables in its environment (export, or your platform's "
    "settings), or call load_dotenv() of python-dotenv before its first call of upstash_state"
)
_TCP = re.compile(r"(?:\w+_)?(?:REDIS|KV)(?:_TLS)?_URL")
_ADDRESS = re.compile(r"\w+://|\.upstash\.io\b")
_SITE = r"^(https?://)?(www\.)?"
# What is wrong with a value, by pattern. After a colon, what to do; if it is missing, the advice is
# to copy the right value.
_MISTAKES = {
    r"^(https://example-12345\.upstash\.io|replace-me)$": "is the placeholder of .env.example",
    "[“”„‟‘’‚‛«»`´]": "has typographic quotes: write plain ones, or none",
    r"\$\{|^\$|\{\{|^%.*%$": "contains a reference, such as ${NAME}, that nothing has replaced: "
    "write the value itself",
    "[\u00ad\u200b-\u200f\u2060\ufeff]": "contains an invisible character",
    "[*•●·]{3}": "is the hidden text that the console shows in place of the value",
}
_URL_MISTAKES = {
    r"^(https://example-12345\.upstash\.io|replace-me)$": "is the placeholder of .env.example",
    **_MISTAKES,
    r"^(redis-cli|curl)\b": "is a command line",
    rf"{_SITE}console\.upstash\.com": "is the address of the console, a website",
    rf"{_SITE}upstash\.(com|io)(/|$)": "is the address of Upstash's website",
    rf"{_SITE}(qstash|[\w-]+-(vector|search))[\w.-]*\.upstash\.io": "is the address of another "
    "product (QStash, Vector or Search)",
    r"^(?!https?://[^/\\]|rediss?://)([htps]{3,7}[:;/\\]|\w+:/)": "begins with a misspelt https://:"
    " let it begin with https://",
    r"^[\w-]+(\.[\w-]+)+(:\d+)?(/|$)": "has no https:// before the host: add it",
}


def variables(environ: Mapping[str, str], from_file: Mapping[str, bool]) -> Iterator[Finding]:
    """Check which variables are set."""
    try:
        pair = package.credentials(environ)
    except MissingCredentialsError as error:
        missing = wrong(str(error))
        yield missing._replace(advice=_other_names(environ, from_file) or missing.advice)
        return
    url, token = (unquoted(environ[name]) for name in pair)
    if _ADDRESS.search(token) and not _ADDRESS.search(url):
        yield wrong(f"{' and '.join(pair)} are swapped: exchange their values")
    sources = ["the file .env here" if from_file.get(n) else "the environment" for n in pair]
    first = "" if sources[0] == sources[1] else f" from {sources[0]}"
    yield Finding("ok", f"{pair[0]}{first} and {pair[1]} from {sources[1]}")
    if any(from_file.get(name) for name in (*pair, *OPTIONS)):
        found = "the app does not read the file .env by itself, only this command does"
        yield Finding("warning", found, LOAD)
    others = [n for n in CREDENTIALS if unquoted(environ.get(n, "")) and n not in pair]
    if others:
        advice = f"unset those that the app does not need; {pair[0]} and {pair[1]} are used"
        yield Finding("warning", f"{' and '.join(others)} too: not used", advice)
    for name in pair:
        if environ[name] != unquoted(environ[name]):
            found = f"{name} has quotes or white space around it, ignored here"
            advice = "remove them: other programs treat them as part of the value"
            yield Finding("warning", found, advice)


def url_and_token(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the form of URL and token."""
    pair = package.credentials(environ)
    for check, name, mistakes in zip(("URL", "token"), pair, (_URL_MISTAKES, _MISTAKES)):
        for pattern, text in mistakes.items():
            if re.search(pattern, unquoted(environ[name]), re.I):
                yield wrong(f"{name} {text}", check)
    try:
        address = urlsplit(Settings(environ).url)
    except SettingsError as error:
        yield wrong(str(error), "token" if str(error).startswith(pair[1]) else "URL")
        return
    # Without a path, into which people paste tokens.
    yield Finding("ok", f"{address.scheme}://{address.netloc}")
    if address.port in REDIS_PORTS:
        found = f"port {address.port} is usually Redis's own, without HTTP"
        yield Finding(
            "warning", found, "leave it out: Upstash's REST API uses port 443, as https does"
        )
    if address.path:
        advice = f"Upstash's has none; unless your own gateway needs it, {WHERE}"
        yield Finding("warning", "the URL has a path after the host", advice)


def settings(
    environ: Mapping[str, str], values: Settings, from_file: Mapping[str, bool]
) -> Iterator[Finding]:
    """Check the app's other settings."""
    refused = [complaint.split()[0] for complaint in values.complaints]
    named = [
        f"{name} {_shown(values, name)}{' (.env)' * from_file.get(name, False)}"
        for name in OPTIONS
        if unquoted(environ.get(name, "")) and name not in refused
    ]
    yield Finding("ok", f"{', '.join(named)}; else the defaults" if named else "the defaults")
    for complaint in values.complaints:
        found, _, advice = complaint.rpartition(" - ")
        name = found.split()[0]
        if name in OPTIONS:
            advice = f"correct it; until then, {_shown(values, name)} is used"
        yield Finding("warning", found, advice)
    for name in environ:
        if name.startswith("UPSTASH_STATE_") and name not in OPTIONS and not misspelt(name):
            advice = f"there are {', '.join(OPTIONS)}"
            yield Finding("warning", f"{name} is not a setting: not used", advice)


def tls(url: str) -> Iterator[Finding]:
    """Check the files that TLS needs."""
    if not url.startswith("https:"):
        return
    name, file = package.ca_bundle() or ("", "")
    try:
        if file:
            context, folder = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), os.path.isdir(file)
            context.load_verify_locations(**{"capath" if folder else "cafile": file})
        trusted = f"{file} ({name})" if file else "the certificates of certifi"
        name = "SSLKEYLOGFILE"
        if log := os.environ.get(name):
            os.close(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600))
        yield Finding("ok", f"trusts {trusted}")
    except OSError as error:
        # An error of OpenSSL, which is an OSError, names the line of its source.
        why = str(error.strerror).partition(" (_ssl")[0]
        found = f"the file that {name} names cannot be used: {why}"
        yield Finding("wrong", found, f"correct or unset {name}")


def _shown(values: Settings, name: str) -> str:
    """Return a setting as a person writes it."""
    value = getattr(values, name.removeprefix("UPSTASH_STATE_").lower())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g} s" if value else "off"


def _other_names(environ: Mapping[str, str], from_file: Mapping[str, bool]) -> str:
    """Return what to do about variables with similar names, or ""."""
    names = [*environ, *(name for name in from_file if name not in environ)]
    for name in CREDENTIALS:
        if name in from_file and not unquoted(environ.get(name, "?")):
            return f"{name} is blank in the environment, which hides that of .env: unset it"
    if all(any(unquoted(environ.get(name, "")) for name in names) for names in zip(*URL_AND_TOKEN)):
        return "names that begin with UPSTASH_ and with KV_ are never mixed: rename one of them"
    for known in CREDENTIALS:
        for other in (name for name in names if name.endswith(f"_{known}")):
            return f"{other} is set: rename it to {known} (Vercel can add a prefix)"
    for name in names:
        near = get_close_matches(name.upper(), CREDENTIALS, 1, ALIKE)
        if near and name not in CREDENTIALS:
            return f"{name} is set; did you mean {near[0]}? {WHERE}"
    for name in filter(_TCP.fullmatch, names):
        return f"{name} is set, an address for Redis over TCP; the REST API has its own: {WHERE}"
    return ""
