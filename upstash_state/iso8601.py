"""ISO 8601 as Python 3.11's `datetime.fromisoformat` reads it, on every Python.

Stored text must not change its meaning with the Python that restores it. 3.12 and 3.13 read the
same; 3.10 reads far less; 3.14 refuses some of it, and reads 24:00 and offsets of less than a
second.
"""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, timedelta, timezone

# Hours, then optionally minutes and seconds, with colons or all without, then a fraction. Odd, but
# what 3.11 does: a fraction may follow hours or minutes too (T12.5 is 12:00:00.5), and that of the
# seconds may be marked by a colon, or without colons by nothing if it has two digits or more.
_CLOCK = r"""
    (?P<@hour>[0-9]{2})
    (?: (?P<@colon>:)? (?P<@minute>[0-9]{2}) (?: (?(@colon):) (?P<@second>[0-9]{2}) )? )?
    (?: (?: [.,] | (?(@second) (?(@colon): | (?=[0-9]{2})) | (?!) ) ) (?P<@fraction>[0-9]+) )?
"""
_MOMENT = (
    r"""(?P<year>[0-9]{4})
    (?P<dash>-)? (?: (?P<month>[0-9]{2}) (?(dash)-) (?P<day>[0-9]{2})
                   | W (?P<week>[0-9]{2}) (?: (?(dash)-) (?P<weekday>[0-9]) )? )
    (?(week) [^0-9] | (?s:.) )"""
    + _CLOCK.replace("@", "")
    + "(?P<skipped>[^-+Z]*) (?P<zone>Z | (?P<sign>[-+])"
    + _CLOCK.replace("@", "zone_")
    + ")?"
)


def _parse(text: str) -> datetime:
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
        if not text[:4].isdigit():
            raise
        return _parse_as_311(text)
    # The usual: not 24:00, which is the next day's 0:00, and an offset, if any, without fraction.
    if moment.hour and (text[-3] == ":" or moment.tzinfo is None):
        return moment
    # Where the day usually stands is not the moment's day.
    late = not moment.hour and "24" in text and ("W" in text or text[8:10] != f"{moment.day:02}")
    offset = moment.utcoffset()
    tiny = offset and abs(offset) < timedelta(seconds=1)
    return _parse_as_311(text) if late or tiny else moment


parse = datetime.fromisoformat if (3, 11) <= sys.version_info < (3, 14) else _parse


def _parse_as_311(text: str) -> datetime:
    match = re.fullmatch(_MOMENT, text, re.VERBOSE)
    if match is None or not _may_skip(match):
        raise ValueError("not ISO 8601")

    year = int(match["year"])
    if match["week"]:
        day = date.fromisocalendar(year, int(match["week"]), int(match["weekday"] or 1))
    else:
        day = date(year, int(match["month"]), int(match["day"]))
    zone = None
    if match["zone"]:
        hours, minutes, seconds, microseconds = _clock(match, "zone_")
        offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        # An offset of less than a second is none to 3.11.
        if offset:
            offset += timedelta(microseconds=microseconds)
        zone = timezone(-offset if match["sign"] == "-" else offset)
    return datetime(day.year, day.month, day.day, *_clock(match, ""), zone)


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
