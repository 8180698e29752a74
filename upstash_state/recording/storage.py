"""A recording's way to disk and back. No token and no host gets through in either direction."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib import parse

from ..settings import URL_AND_TOKEN, Secret, is_loopback, unquoted
from .exchange import Exchange, RecordingError
from .file import dump, load

# Shorter ones are found in ordinary words; what Upstash gives out has 40 characters and more.
SHORTEST_SECRET = 8

_KINDS = (
    # Upstash's REST tokens are base64 of a binary head and an id.
    ("what looks like a REST token", r"\bA[A-Za-z0-9_-]{3}A[A-Za-z0-9_-]{40}"),
    ("an Authorization header", r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{16}|(?i:authorization:\s*\S)"),
    ("a token in an address", r"[?&]_token=\w"),
    ("an Upstash host", r"(?i:[\w-]\.upstash\.io\b)"),
    ("an address with a password", r"\brediss?://[^\s/]*@"),
)
# An ASCII character as URLs, JSON and Python escape it; in JSON inside JSON with more backslashes.
_ESCAPE = re.compile(r"(?:%|\\{1,4}u00|\\{1,4}x)([0-7][0-9a-fA-F])")


def secrets_in(environ: Mapping[str, str]) -> set[Secret]:
    """Tokens and host names that the environment names."""
    pairs = [[unquoted(environ.get(name, "")) for name in pair] for pair in URL_AND_TOKEN]
    return {secret for url, token in pairs for secret in secrets_of(url, token)}


def secrets_of(url: str, token: str | Secret) -> set[Secret]:
    """A token, and the host name of an address unless it is loopback."""
    try:
        host = parse.urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    # As Secret, which no traceback with local variables shows.
    return {Secret(token)} if is_loopback(host) else {Secret(token), Secret(host)}


def read(path: Path, secrets: Collection[str | Secret] = ()) -> list[Exchange]:
    """The exchanges in a recording's file.

    Args:
        path: The file.
        secrets: Tokens and host names that must not be in it, beside what looks like one.

    Raises:
        RecordingError: It cannot be used. The text goes on after the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot be read: {error}") from None
    # As it stands first, since a token may be in a comment, or be why it cannot be loaded.
    _refuse([text], secrets)
    exchanges = load(text)
    _refuse((text for exchange in exchanges for text in _texts(exchange)), secrets)
    return exchanges


def write(
    path: Path, exchanges: Sequence[Exchange], secrets: Collection[str | Secret] = ()
) -> None:
    """Make or replace a recording's file.

    Args:
        path: The file. Folders on the way to it are made.
        exchanges: What to write.
        secrets: Tokens and host names that must not be in it, beside what looks like one.

    Raises:
        RecordingError: A secret is in it, and nothing is written.
    """
    for number, exchange in enumerate(exchanges, 1):
        if secret := _found_in(_texts(exchange), secrets):
            name = exchange.request.commands[0][0]
            where = f"exchange {number} ({name}) holds {secret}"
            raise RecordingError(f"is not written: {where}. Use other data in the test")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whoever reads it at the same time, or interrupts this, finds a whole file.
    unfinished = path.with_name(f".{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.write(dump(exchanges))
    unfinished.replace(path)


def _refuse(texts: Collection[str] | Iterator[str], secrets: Collection[str | Secret]) -> None:
    if secret := _found_in(texts, secrets):
        raise RecordingError(
            f"holds {secret}. Take it out of the file and of the repository's history, and if it "
            "is a real token, reset it on console.upstash.com"
        )


def _found_in(
    texts: Collection[str] | Iterator[str], secrets: Collection[str | Secret]
) -> str | None:
    """What in the texts is a secret, in words that do not repeat it."""
    plain = [Secret(secret).reveal() for secret in secrets]
    long = [secret for secret in plain if len(secret) >= SHORTEST_SECRET]
    known = {form.lower() for secret in long for form in _forms(secret)}
    for text in (view for given in texts for view in _views(given)):
        lowered = text.lower()
        if any(form in lowered for form in known):
            return "the token or the host of the endpoint"
        for what, pattern in _KINDS:
            if re.search(pattern, text):
                return what
    return None


def _forms(secret: str) -> Iterator[str]:
    """A secret as it is, and as what is inside hexadecimal or base64 text, as of Basic."""
    data = secret.encode()
    yield secret
    yield data.hex()
    for before in range(3):
        # Characters that hold bits of what stands before or after it differ.
        first, last = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6
        encoded = base64.b64encode(bytes(before) + data).decode()[first:last]
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")


def _views(text: str) -> Iterator[str]:
    """A text, and what it says without its escapes."""
    for _ in range(4):
        yield text
        plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
        if plain == text:
            return
        text = plain


def _texts(exchange: Exchange) -> Iterator[str]:
    for command in exchange.request.commands:
        yield from command
    yield from exchange.headers.values()
    yield exchange.body.decode(errors="replace")
