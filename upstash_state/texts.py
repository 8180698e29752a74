"""Show texts that come from others (keys, ids, error texts, names of types) in messages."""

from __future__ import annotations

from contextlib import suppress

#: The most characters that `shown` returns of a text, without the "…" at its end.
LONGEST = 500


def shown(text: str, longest: int = LONGEST) -> str:
    """Return a text as one printable line of bounded length.

    Characters that `str.isprintable` rejects (C0 and C1 controls, line separators, bidirectional
    and other format characters, lone surrogates) are escaped as in a Python literal, so that they
    can neither start a new line in a log nor change how a terminal shows it.

    Args:
        text: Any text.
        longest: The most characters to return. A longer text is cut and ends with "…".
    """
    line = str.__str__(text)
    cut = line[:longest]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
    return cut[:longest] + "…" * (len(line) > longest or len(cut) > longest)


def text_of(error: BaseException) -> str:
    """Return an exception's text, empty if it raises instead of giving one."""
    with suppress(Exception):
        return str(error)
    return ""


def type_name(value: object) -> str:
    """Return the name of a value's type as `shown` returns texts: a name can hold any character."""
    return shown(type(value).__name__, 100)
