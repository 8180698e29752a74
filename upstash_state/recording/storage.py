"""Recordings on disk. No token and no host name gets into one, or out of one."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from html import unescape
from pathlib import Path

from ..settings import Secret, is_loopback
from .exchange import Exchange, RecordingError
from .file import dump, load
from .match import Varying, unchanged

# Shorter ones occur in ordinary words. Upstash's tokens have 40 characters and more.
SHORTEST_SECRET = 8

# An ASCII character as URLs, JSON and Python escape it, with more backslashes for JSON in JSON.
_ESCAPE = re.compile(r"(?:%|\\{1,16}u00|\\{1,16}x)([0-7][0-9a-fA-F])")


def read(path: Path, secrets: Collection[Secret] = ()) -> list[Exchange]:
    """Read the exchanges in a recording's file.

    Args:
        path: The file.
        secrets: Tokens and host names that must not be in it.

    Raises:
        RecordingError: It cannot be used. The text goes on after the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordingError("does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot be read: {error}") from None
    # First as it stands, since a token may be in a comment, or in the error that loading raises.
    exchanges = None if holds_secret([text], secrets) else load(text)
    if exchanges is None or any(holds_secret(_texts(one), secrets) for one in exchanges):
        raise RecordingError(
            "holds the token or the host of the endpoint. Remove it from the file and from the "
            "repository's history, and reset the token on console.upstash.com"
        )
    return exchanges


def write(
    path: Path, exchanges: Sequence[Exchange], secrets: Collection[Secret], varying: Varying
) -> bool:
    """Create or replace a recording's file, unless it records the same already.

    Args:
        path: The file. Missing folders are created.
        exchanges: The exchanges to write.
        secrets: Tokens and host names that must not be in it.
        varying: The values that may differ from those in the file.

    Returns:
        Whether the file is new or changed.

    Raises:
        RecordingError: A secret is in it, and nothing is written.
    """
    for number, exchange in enumerate(exchanges, 1):
        if holds_secret([path.name, *_texts(exchange)], secrets):
            raise RecordingError(
                f"is not written: exchange {number} or the file's name holds the token or the host "
                f"of the endpoint ({exchange.request.commands[0][0]}). Use other data in the test"
            )
    with suppress(RecordingError):
        if unchanged(read(path, secrets), exchanges, varying):
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # A rename, so that a reader or an interruption never finds half a file.
    unfinished = path.with_name(f".{os.getpid()}.tmp")
    unfinished.write_text(dump(exchanges), encoding="utf-8", newline="\n")
    unfinished.replace(path)
    return True


def holds_secret(texts: Iterable[str], secrets: Collection[Secret]) -> bool:
    """Return whether a text holds a secret, in any common encoding."""
    plain = [secret.reveal() for secret in secrets]
    long = [text for text in plain if len(text) >= SHORTEST_SECRET and not is_loopback(text)]
    forms = {form.lower() for text in long for form in _forms(text)}
    views = (view.lower() for text in texts for view in _views(text))
    return any(form in view for view in views for form in forms)


def _forms(secret: str) -> Iterator[str]:
    """Return a secret as it is, and as it stands inside hexadecimal or base64 text."""
    data = secret.encode()
    yield from (secret, data.hex())
    for before in range(3):
        # The characters at both ends also depend on the text around the secret.
        first, last = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6
        encoded = base64.b64encode(bytes(before) + data).decode()[first:last]
        yield from (encoded, encoded.replace("+", "-").replace("/", "_"))


def _views(text: str) -> Iterator[str]:
    """Return a text as it is, and with its escapes resolved, one layer after the other."""
    for _ in range(4):
        yield from (text, text.replace("\\", ""))
        plain = unescape(_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text))
        if plain == text:
            return
        text = plain


def _texts(exchange: Exchange) -> Iterator[str]:
    for command in exchange.request.commands:
        yield from command
    yield from exchange.headers.values()
    yield exchange.body.decode(errors="replace")
