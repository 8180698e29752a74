"""ISO 8601 as Python 3.11's `datetime.fromisoformat` reads it, for other Pythons.

3.10 reads far less. 3.14 refuses some of it, and reads 24:00 and offsets of less than a second. On
3.11 to 3.13 nothing imports this module.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime, timedelta, timezone

# Hours, then optionally minutes and seconds, with colons or all without, then a fraction. Odd, but
# what 3.11 does: a fraction may follow hours or minutes too (T12.5 is 12:00:00.5), and that of the
# seconds may be marked by a colon, or without colons by nothing if it has two digits or more.
_CLOCK = r"""
    (?P<@hour>[0-9]{2})
    (?: (?P<@colon>:)? (?P<@minute>[0-9]{2}) (?: (?(@colon):) (?P<@second>[0-9]{2}) )? )?
    (?: (?: [.,] | (?(@second) (?(@colon): | (?=[0-9]{2})) | (?!) ) ) (?P<@fraction>[0-9]+) )?
"""
_MOMENT = re.compile(
    r"(?P<date>[0-9]{4} (?: -[0-9]{2}-[0-9]{2} | [0-9]{4} | -?W(?P<week>[0-9]{2})(?:-?[0-9])? ))"
    + "(?(week)[^0-9] | (?s:.))"
    + _CLOCK.replace("@", "")
    + "(?P<skipped>[^-+Z]*)"
    + "(?P<zone>Z | (?P<sign>[-+])"
    + _CLOCK.replace("@", "zone_")
    + ")?",
    re.VERBOSE,
)
_SECOND = timedelta(seconds=1)


def parse(text: str) -> datetime:
    """Read a date and time.

    Args:
        text: What may be ISO 8601. (`datetime.fromisoformat` reads dates alone too; they lack the
            "T" without which nobody asks here.)

    Returns:
        The same as `datetime.fromisoformat` on Python 3.11, unless the text holds a NUL, which
        ends it there.

    Raises:
        ValueError: Python 3.11 would not read it.
    """
    try:
        if sys.version_info < (3, 11):
            # What 3.10 reads, 3.11 reads in the same way, but for a Z between time and offset. With
            # the Z written as an offset in full, no more of it can follow.
            return datetime.fromisoformat(text.replace("Z", "+00:00:00.000000"))
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _parse_as_311(text)
    # 24:00 is the next day's 0:00, so that the text does not name the day where it usually does.
    if not moment.hour and "24" in text and ("W" in text or text[8:10] != f"{moment.day:02}"):
        return _parse_as_311(text)
    offset = moment.utcoffset()
    return _parse_as_311(text) if offset and abs(offset) < _SECOND else moment


def _parse_as_311(text: str) -> datetime:
    match = _MOMENT.fullmatch(text)
    if match is None or not _may_skip(match):
        raise ValueError("not ISO 8601")

    # Here rather than above, since an order without such text need not wait for its import.
    from dateutil.parser import isoparse

    try:
        moment = isoparse(match["date"])
    except OverflowError as error:
        raise ValueError("a week after the year 9999") from error
    if match["week"] and moment.isocalendar()[1] != int(match["week"]):
        raise ValueError("a 53rd week in a year of 52")

    hour, minute, second, microsecond = _clock(match, "")
    zone = None
    if match["zone"] == "Z":
        zone = timezone.utc
    elif match["zone"]:
        hours, minutes, seconds, microseconds = _clock(match, "zone_")
        offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        # An offset of less than a second is none to 3.11.
        if offset:
            offset += timedelta(microseconds=microseconds)
        zone = timezone(-offset if match["sign"] == "-" else offset)
    return moment.replace(
        hour=hour, minute=minute, second=second, microsecond=microsecond, tzinfo=zone
    )


def _may_skip(match: re.Match[str]) -> bool:
    """Whether 3.11 skips what stands between time and zone: one byte, more after six digits."""
    skipped = match["skipped"].encode()
    if not skipped:
        return True
    fraction = match["fraction"]
    return bool(match["zone"]) and (len(fraction) >= 6 if fraction else len(skipped) == 1)


def _clock(match: re.Match[str], prefix: str) -> tuple[int, int, int, int]:
    hour, minute, second = (int(match[prefix + name] or 0) for name in ("hour", "minute", "second"))
    fraction = match[prefix + "fraction"] or ""
    return hour, minute, second, int(fraction[:6].ljust(6, "0"))
