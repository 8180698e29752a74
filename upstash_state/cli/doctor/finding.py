"""Findings of the doctor, a row each."""

from typing import Literal, NamedTuple


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
