"""Text for people: what a terminal may show, and how wide; progress and JSON."""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TextIO

from rich.console import Console

from ..logs import plural

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def console(stream: TextIO) -> Console:
    """Return a console with the colours that a stream can show (NO_COLOR, TERM)."""
    return Console(
        file=stream, force_terminal=stream.isatty(), soft_wrap=True, highlight=False, markup=False
    )


def printable(text: str) -> str:
    """Return text as one line, with characters that are not printable escaped as in JSON.

    Ids, names and error texts come from other programs. Their control characters could move the
    cursor or hide other text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def wrapped(text: str, stream: TextIO, indent: int = 0) -> str:
    """Break text between words for a terminal, and leave it alone elsewhere.

    Args:
        text: One line.
        stream: Where it will be printed.
        indent: The column in which further lines begin.
    """
    if not stream.isatty():
        return text
    layout = textwrap.TextWrapper(break_long_words=False, break_on_hyphens=False)
    layout.width, layout.subsequent_indent = console(stream).width, " " * indent
    return layout.fill(text)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `6 d 23 h`, `45 s`."""
    rest = abs(int(seconds))
    parts: list[str] = []
    for name, length in _UNITS:
        number, rest = divmod(rest, length)
        if number or parts:
            parts.append(f"{number} {name}" if number else "")
    shown = " ".join(filter(None, parts[:2])) or "0 s"
    return f"-{shown}" if seconds <= -1 else shown


def complain(text: str) -> None:
    """Print a line on standard error."""
    with suppress(OSError):
        print(wrapped(f"upstash-state: {printable(text)}", sys.stderr), file=sys.stderr)


def ids_from(arguments: Sequence[str]) -> list[str]:
    """Return the ids without duplicates. `-` stands for the lines of standard input."""
    lines = []
    if "-" in arguments:
        # Bytes that are not UTF-8 cannot be sent: the client refuses them.
        text = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
        lines = re.findall(r"[^\n]*[^\r\n]", text)
    ids = (one for given in arguments for one in (lines if given == "-" else [given]))
    return list(dict.fromkeys(ids))


def print_json(value: object) -> None:
    """Print JSON as RFC 8259 defines it: without NaN."""
    print(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def progress(doing: str, visible: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a number of orders in the terminal, until the block ends.

    Args:
        doing: What is done with the orders, such as `exported`.
        visible: Whether to show anything, if there is a terminal.

    Yields:
        A function that takes the number so far.
    """
    status = console(sys.stderr).status(f"{doing} {plural(0)}", spinner="line")
    with status if visible else nullcontext():
        yield lambda count: status.update(f"{doing} {plural(count)}")
