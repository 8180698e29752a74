"""Findings of the doctor. Each is a row of its report."""

from typing import Literal, NamedTuple

from ...settings import WHERE


class Finding(NamedTuple):
    """One finding. The report ends with the first one that is wrong.

    Attributes:
        state: "warning" if it works now, but may fail later.
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
