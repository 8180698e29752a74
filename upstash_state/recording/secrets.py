"""Find tokens and host names in a text, in any common encoding."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator
from html import unescape

from ..settings import Secret, is_loopback

# Shorter ones occur in ordinary words. Upstash's tokens have 40 characters and more.
SHORTEST_SECRET = 8

# An ASCII character as URLs, JSON and Python escape it, with more backslashes for JSON in JSON.
_ESCAPE = re.compile(r"(?:%|\\{1,16}u00|\\{1,16}x)([0-7][0-9a-fA-F])")


def holds_secret(texts: Iterable[str], secrets: Collection[Secret]) -> bool:
    """Return whether a text holds a secret, in any common encoding."""
    plain = [secret.reveal() for secret in secrets]
    long = [text for text in plain if len(text) >= SHORTEST_SECRET and not is_loopback(text)]
    forms = {form.lower() for text in long for form in _forms(text)}
    views = (view.lower() for text in texts for view in _views(text))
    return any(form in view for view in views for form in forms)


def _forms(secret: str) -> Iterator[str]:
    """Return a secret as it is, and as it appears in hexadecimal or base64 text."""
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
