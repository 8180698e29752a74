"""Text for people: what a terminal may be shown, durations, questions, progress."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from types import TracebackType
from typing import TextIO

from ..errors import UpstashError

_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_SHOWN = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


class UsageError(UpstashError):
    """Raised when the command line asks for what cannot be done in this way."""


def printable(text: str) -> str:
    """Text in one line that cannot do anything to a terminal: the rest is escaped as in JSON.

    Ids, names and error texts come from outside; written as they are, their control characters
    could move the cursor, or hide what stands before.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """A duration with its two largest units: `6 d 23 h`, `45 s`."""
    rest = abs(int(seconds))
    parts: list[str] = []
    for name, length in _SHOWN:
        number, rest = divmod(rest, length)
        if number or parts:
            parts.append(f"{number} {name}" if number else "")
    shown = " ".join(filter(None, parts[:2])) or "0 s"
    return f"-{shown}" if seconds <= -1 else shown


def parse_duration(text: str) -> timedelta:
    """Read `45s`, `30m`, `12h`, `2d` or `1w`.

    Raises:
        ValueError: It is something else.
    """
    match = re.fullmatch(r"([0-9]{1,6})([wdhms])", text)
    if match is None:
        raise ValueError(text)
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def orders(count: int) -> str:
    """A number of orders: `1 order`, `5,000 orders`."""
    return f"{count:,} order{'' if count == 1 else 's'}"


def confirm(question: str) -> bool:
    """Ask a person, who has to type y or yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class Progress:
    """A line in the terminal that counts up, and is gone at the end. Nothing where none is.

    Args:
        doing: What is counted, as in `exported`.
        stream: Where to write, None for standard error.
    """

    def __init__(self, doing: str, stream: TextIO | None = None) -> None:
        self._doing = doing
        self._stream = sys.stderr if stream is None else stream
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def show(self, count: int) -> None:
        """Show how many it has been so far."""
        if self._stream.isatty():
            line = f"{self._doing} {orders(count)}"
            self._width = max(self._width, len(line))
            print(f"\r{line}", end="", file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=self._stream, flush=True)
            self._width = 0
