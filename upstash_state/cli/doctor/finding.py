"""What the doctor finds: a line each."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        state: How serious it is. What is a warning works, but not for certain, or not for ever.
        found: What was found.
        advice: What to do about it, "" for nothing.
    """

    state: Literal["ok", "warning", "wrong"]
    found: str
    advice: str = ""


class Wrong(Exception):
    """Raised by a check for what explains everything after it."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.finding = Finding("wrong", found, advice)


def ok(found: str) -> Finding:
    """All is well here."""
    return Finding("ok", found)


def warning(found: str, advice: str) -> Finding:
    """It works, but not for certain, or not for ever."""
    return Finding("warning", found, advice)
