"""Types of arguments."""

import os
import re

import click

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# A thread cannot wait longer (threading.TIMEOUT_MAX), and a date cannot be moved further.
_TOO_LONG = 9e9

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def utf8(text: str) -> str:
    """Decode an argument as UTF-8, the encoding of Redis and of standard input.

    Python decodes arguments in the locale's encoding (PEP 383).
    """
    return os.fsencode(text).decode(errors="surrogateescape")


def seconds(text: str) -> float:
    """Read `150ms`, `45s`, `30m`, `12h`, `2d` or `1w`."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|[smhdw])", text)
    time = float(match[1]) * _UNITS[match[2]] if match else _TOO_LONG
    if time >= _TOO_LONG:
        raise click.BadParameter(f"{text!r} is not a time such as 150ms, 45s, 12h or 2d.")
    return time


def share(text: str) -> float:
    """Read `20%` or `0.2`."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(%?)", text)
    part = float(match[1]) / (100 if match[2] else 1) if match else 2.0
    if part > 1:
        raise click.BadParameter(f"{text!r} is not a share such as 20% or 0.2, at most 100%.")
    return part
