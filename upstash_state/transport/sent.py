"""Keep the text of a request out of error messages, because orders are personal data."""

from __future__ import annotations

import re
from functools import cached_property
from urllib.parse import unquote

from ..settings import Secret
from ..texts import LONGEST, shown

# Usual words of error texts. An order may have them too, but they say nothing about it.
_USUAL = frozenset(
    b"""
    a an and are as at authorization be been before body but by can cannot capacity command connect
    connection daily database db does doesn end err error exceeded exist expected expired failed
    for found from gateway has have header headers in internal invalid is it key kind large limit
    max message missing must no noauth noperm not of on only operation or out please quota rate
    read record request requests reset response s server service single size status syntax t
    temporarily than that the this time to token too try type unable unauthorized unavailable
    unexpected unknown upstream use user value was with wrong wrongpass wrongtype you your
    """.split()
)
# A longer word is encoded data: hexadecimal, base64.
_LONGEST_WORD = 40
# Replaces each ASCII character that cannot be part of a word by a space.
_SPACED = bytes(
    byte if byte > 127 or chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in range(256)
)


class SentRequest:
    """Separate the endpoint's own words from words that it repeats from the request.

    Args:
        body: The request's body.
        token: The token in its header.
    """

    def __init__(self, body: bytes, token: Secret) -> None:
        self._body = body
        self._token = token
        # A cache, because the items of a pipeline often fail with the same words.
        self._known: dict[str, bool] = {}

    def own_words(self, text: str) -> str:
        """Return the start of a text, up to the first repetition of the request, as one line.

        The line ends before the first word that is also in the body or in the token. The names of
        the body's commands and the usual words of error texts do not count. The line also ends
        before a quoted array or object.

        Args:
            text: A text of the endpoint, or of an exception that the request raised.

        Returns:
            The line, with "…" at its end if it was cut; empty if the text only repeats the request.
        """
        # Undo the escapes of JSON and URLs that the text quotes.
        plain = unquote(text[: 2 * LONGEST])
        plain = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), plain)
        plain = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        plain = plain.replace(self._token.reveal(), "***")
        plain = re.sub(r"//\S*@", "//***@", re.sub(r"\s+", " ", plain))
        own, *rest = re.split(r"""[\[{]\s*["'\\\[{]""", plain, maxsplit=1)
        for word in re.finditer(r"[\w\x80-\U0010ffff]+", own):
            if self._repeats(word[0].casefold()):
                own, rest = own[: word.start()], ["…"]
                break
        own = shown(own.rstrip(" '\"`([{<:=,;-/\\")) if rest else shown(own)
        return own.rstrip("…") + "…" if own and rest else own

    def _repeats(self, word: str) -> bool:
        if word not in self._known:
            self._known[word] = self._look_up(word)
        return self._known[word]

    def _look_up(self, word: str) -> bool:
        data = word.encode()
        if data in _USUAL or data in self._names:
            return False
        if not word.isascii():
            # Some scripts have no spaces between words, so each character is compared.
            return any(char.encode() in self._words for char in word if not char.isascii())
        # Part of a word is enough, because a gateway may cut the text that it repeats.
        part = data if len(data) > 3 else b" %b " % data
        return len(data) > _LONGEST_WORD or part in self._words

    @cached_property
    def _names(self) -> set[bytes]:
        # Only matches the start of an array, because quotes inside strings are escaped.
        return {name.lower() for name in re.findall(rb'\["(\w+)"', self._body)}

    @cached_property
    def _words(self) -> bytes:
        body = self._body
        for escape in (rb"\n", rb"\r", rb"\t"):
            body = body.replace(escape, b" ")
        text = f" {body.decode(errors='replace')} {self._token.reveal()} "
        return text.casefold().encode().translate(_SPACED)
