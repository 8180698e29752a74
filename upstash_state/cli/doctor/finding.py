"""Findings of the doctor, a row each."""

from typing import Literal, NamedTuple

from ...settings import WHERE


class Finding(NamedTuple):
    """One finding. The first that is wrong explains everything after it.

    Attributes:
        state: "warning" for something that works, but not for certain or not for ever.
        found: What was found.
        advice: What to do about it, "" for nothing.
        check: The name of its row; "" for that of the check that is under way.
    """

    state: Literal["ok", "warning", "wrong"]
    found: str
    advice: str = ""
    check: str = ""


def wrong(text: str, check: str = "") -> Finding:
    """Return the finding that a text such as `URL is blank: copy it from …` describes."""
    found, _, advice = text.partition(": ")
    return Finding("wrong", found, advice or WHERE, check)
