"""What the doctor finds: a line each."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        state: How serious it is.
        found: What was found.
        advice: What to do about it, "" for nothing.
    """

    state: State
    found: str
    advice: str = ""


class Wrong(Exception):
    """Raised by a check for what explains everything after it."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.finding = Finding(State.WRONG, found, advice)


def ok(found: str) -> Finding:
    """All is well here."""
    return Finding(State.OK, found)


def warning(found: str, advice: str) -> Finding:
    """It works, but not for certain, or not for ever."""
    return Finding(State.WARNING, found, advice)
