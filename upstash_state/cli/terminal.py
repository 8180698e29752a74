"""Text for people: what a terminal may be shown, and how wide; questions, progress, JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from unicodedata import category, east_asian_width

from ..errors import UpstashError

RED, GREEN, YELLOW = "31", "32", "33"
# To the beginning of the line, and remove what stands there (ECMA-48, EL).
_CLEAR = "\r\x1b[K"
# Asks for the glyph of an emoji, which is twice as wide (Unicode's UTS 51, section 2.3).
_EMOJI = "\ufe0f"


class ToolError(UpstashError):
    """Raised when a command cannot be done. The text says why, and needs no further diagnosis."""


def printable(text: str) -> str:
    """Text in one line that cannot do anything to a terminal: the rest is escaped as in JSON.

    Ids, names and error texts come from outside; written as they are, their control characters
    could move the cursor, or hide what stands before.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def cells(text: str) -> int:
    """How many cells of a terminal printable text takes, or a few more (UAX 11; joined emoji)."""
    if text.isascii():
        return len(text)
    return sum(
        1 + (east_asian_width(c) in "WF") if c == _EMOJI or category(c) not in ("Mn", "Me") else 0
        for c in text
    )


def fit(text: str, width: int) -> str:
    """Text in at most so many cells, with … in place of what was cut off."""
    if cells(text) <= width:
        return text
    # A cell holds a character at least, but for accents, so no more need be looked at.
    text = text[: max(width, 0)]
    while text and cells(text) >= width:
        text = text[:-1]
    return text + "…" * (width > 0)


def coloured(text: str, colour: str) -> str:
    """Text for standard output, in a colour where that is a terminal that takes one."""
    plain = not colour or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[{colour}m{text}\x1b[0m"


def paragraph(text: str, indent: int) -> str:
    """Text for standard output; in a terminal, lines after the first begin where it begins."""
    if not sys.stdout.isatty():
        return text
    width = max(shutil.get_terminal_size().columns - indent, 20)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * indent).join(lines)


def print_json(value: object) -> None:
    """Print JSON as RFC 8259 has it: no NaN."""
    print(json.dumps(value, indent=2, allow_nan=False))


def orders(count: int) -> str:
    """A number of orders: `1 order`, `5,000 orders`."""
    return f"{count:,} order{'' if count == 1 else 's'}"


def complain(text: str) -> None:
    """Say something on standard error."""
    with suppress(OSError):
        # Where a progress line is, it begins anew after this.
        begin = _CLEAR if sys.stderr.isatty() else ""
        print(f"{begin}upstash-state: {printable(text)}", file=sys.stderr)


def confirm(question: str) -> bool:
    """Ask a person, who has to type y or yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("Nothing deleted.", file=sys.stderr)
    return False


def ids_from(arguments: list[str]) -> list[str]:
    """Ids as they were given, in place of `-` those of standard input, a line each; none twice."""
    lines = []
    if "-" in arguments:
        # What is not UTF-8 cannot be sent: the client refuses it.
        text = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
        lines = re.findall(r"[^\n]*[^\r\n]", text)
    ids = (one for given in arguments for one in (lines if given == "-" else [given]))
    return list(dict.fromkeys(ids))


@contextmanager
def progress(doing: str) -> Iterator[Callable[[int], None]]:
    """A line in the terminal that counts up, and is gone at the end. Without a terminal, nothing.

    Args:
        doing: What is counted, as in `exported`.

    Yields:
        What shows how many it has been so far.
    """
    seen = sys.stderr.isatty()

    def show(count: int) -> None:
        if seen:
            print(f"{_CLEAR}{doing} {orders(count)}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if seen:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
