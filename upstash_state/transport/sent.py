"""Keep the text of a request out of error messages, because orders are personal data."""

from __future__ import annotations

import re
from functools import cached_property
from urllib.parse import unquote

from ..settings import Secret
from ..texts import LONGEST, shown

# The number of different pieces that are looked for in one request. Others count as repeated.
MOST = 200
# What no endpoint says in its own words: a quoted array or object, or encoded data (hexadecimal,
# base64).
_DATA = re.compile(r"""[\[{]\s*["'\\\[{]|[\w+/=]{40}""")
# The pieces of a text that are looked for in the request: a character outside of ASCII, four
# digits, a quoted word, a name, and eight characters from the start of a word. Other short words
# may be the endpoint's own, whatever an order says.
_PIECES = re.compile(
    r"""(?x)
    \w*?(?P<letter>[^\x00-\x7f])
  | [0-9]{4}
  | (?<=["'`])\w{4,}
  | (?P<name>\b[A-Z][a-z]{2,}\b)
  | \b(?=(?P<start>\w.{7}))
    """
)


class SentRequest:
    """Separate the endpoint's own words from what it repeats of the request.

    Args:
        body: The request's body.
        token: The token in its header.
    """

    def __init__(self, body: bytes, token: Secret) -> None:
        self._body, self._token = body, token
        # A cache, because the items of a pipeline often fail with the same words.
        self._known: dict[str, bool] = {}

    def own_words(self, text: str) -> str:
        """Return the start of a text, up to the first repetition of the request, as one line.

        Args:
            text: A text of the endpoint, or of an exception that the request raised.

        Returns:
            The line, with "…" at its end if it was cut; empty if the text only repeats the request.
        """
        from html import unescape

        line = re.sub(r"(\\+[nrt]|\s)+", " ", unescape(unquote(text[: 2 * LONGEST])))
        plain = _unescaped(line).replace(self._token.reveal(), "***")
        # The password of a proxy.
        plain = re.sub(r"//\S*@", "//***@", plain)
        own, *rest = _DATA.split(plain, maxsplit=1)
        repeated = (piece.start() for piece in _PIECES.finditer(own) if self._repeats(piece))
        end = next(repeated, len(own) if rest else None)
        if end is None:
            return shown(own)
        own = shown(own[:end].rstrip(" '\"`([{<:=,;-/")).rstrip("…")
        return own and own + "…"

    def _repeats(self, piece: re.Match[str]) -> bool:
        # Names are compared with their case: "Failed" in an error text is not the "failed" of an
        # order.
        part = piece["name"] or (piece["letter"] or piece["start"] or piece[0]).casefold()
        if part not in self._known:
            # Each search reads the whole request. Error texts with many words do not get the time
            # for more.
            self._known[part] = len(self._known) >= MOST or part in self._sent
        return self._known[part]

    @cached_property
    def _sent(self) -> str:
        # Without the names of the commands, which error texts may tell. Quotes inside an argument
        # are escaped, so this matches only at the start of an array.
        body = re.sub(rb'\["[^"\\]*"', b"[", self._body).decode(errors="replace")
        sent = _unescaped(f"{body} {self._token.reveal()}")
        return sent + sent.casefold()


def _unescaped(text: str) -> str:
    """Undo the escapes of JSON, also nested ones, but for those of white space."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\\", "")
