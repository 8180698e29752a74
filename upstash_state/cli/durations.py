"""Times as people write them, and as they read them."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# More than a thread can wait (threading.TIMEOUT_MAX), or than a date can be moved.
_TOO_LONG = 9e9
_SHOWN = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def seconds(text: str) -> float:
    """Read `150ms`, `45s`, `30m`, `12h`, `2d` or `1w`.

    Raises:
        ArgumentTypeError: It is something else.
    """
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]+)?)(ms|[smhdw])", text)
    time = float(match[1]) * _UNITS[match[2]] if match else _TOO_LONG
    if time >= _TOO_LONG:
        raise ArgumentTypeError(f"{text!r} is not a time such as 150ms, 45s, 12h or 2d")
    return time


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
