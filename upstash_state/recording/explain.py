"""Describe how a run differs from its recording. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from time import gmtime, localtime, strftime
from typing import Any

from ..texts import shown
from .exchange import Request
from .match import JSON, MISSING, Path, Replay, Varying, field_of, kind_of, meaning_of, same_kind

# Longer messages are not read.
MOST_REQUESTS, MOST_LINES = 20, 40
LONGEST_VALUE = 60

_DAY = 24 * 60 * 60
# Values that differ in each run: a date or timestamp, a time of day, seconds or milliseconds
# since the epoch, UUIDs of version 1, 4 or 7 (RFC 9562), and what `secrets.token_hex` returns.
_NEW_IN_EACH_RUN = re.compile(
    r"(?i)(?P<date>\d{4}-\d\d-\d\d)(?:[T ]\d\d:[\d:.,]+(?:Z|[+-][\d:]+)?)?"
    r"|\b(?P<time>\d\d:\d\d)(?::\d\d)?\b|\b(?P<epoch>\d{10})(?:\d{3})?\b"
    r"|\b[0-9a-f]{8}(?P<dash>-?)[0-9a-f]{4}(?P=dash)[147][0-9a-f]{3}(?P=dash)[89ab][0-9a-f]{3}"
    r"(?P=dash)[0-9a-f]{12}\b|\b(?P<id>(?=\w*[a-f])[0-9a-f]{16,})\b"
)


def mismatches(
    replay: Replay, unused: Collection[int], environ: Mapping[str, str]
) -> tuple[list[str], list[tuple[Path, Any]]]:
    """Describe where a run and a recording differ.

    Args:
        replay: The recorded exchanges, and the requests that none of them answered.
        unused: The indexes of the exchanges that should have been used.
        environ: The variables that are set.

    Returns:
        A line for each mismatch, with indented lines below it; and the values that differ from
        recorded ones of the same kind, with their paths.
    """
    exchanges = replay.exchanges
    names = [f"{one.request} (exchange {number})" for number, one in enumerate(exchanges, 1)]
    lines: list[str] = []
    values: list[tuple[Path, Any]] = []
    explained = set()
    for request, threads in [*replay.unmatched.items()][:MOST_REQUESTS]:
        index, differences = replay.nearest(request)
        explained.add(index)
        values += [(path, sent) for path, old, sent in differences if same_kind(old, sent)]
        what = "not recorded" if index is None else "sent more often than recorded"
        what, *more = [_shown(*one, replay.varying, request) for one in differences] or [what]
        notes = [str(request)] if index is None else [f"{request}, exchange {index + 1}"]
        notes += [f"sent {len(threads)} times"] if len(threads) > 1 else []
        notes += [f"by thread {thread}" for thread in {*threads} - {""}]
        lines += [f"{what} ({', '.join(notes)})", *(f"    {line}" for line in more)]
    sent = lines[:]
    unused = [index for index in unused if index not in explained]
    lines += [f"not sent: {names[index]}; allow_unused=True lets this pass" for index in unused]
    # Variables that a developer's shell may set, and CI does not.
    for name in ("UPSTASH_STATE_TTL", "UPSTASH_STATE_PREFIX", "UPSTASH_STATE_SKIP_UNCHANGED"):
        value = environ.get(name, "")
        shows = unused if "SKIP" in name else any(f" is {value}" in line for line in sent)
        if value and shows:
            lines.append(f"    {name}={value} is set")
    if not lines and (pair := replay.reordered()):
        lines = [f"sent in another order: {names[pair[1]]} before {names[pair[0]]}"]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES} more"]
    return lines, values


def _shown(path: Path, before: Any, after: Any, varying: Varying, request: Request) -> str:
    place = meaning_of(path) or field_of(path, "[{}]") or "value"
    if len(request.commands) > 1:
        place = f"command {path[0]}: {place}"
    texts = [_text(value, JSON in path) for value in (before, after)]
    # Long texts are cut around the place where they begin to differ.
    same = next((i for i, (a, b) in enumerate(zip(*texts)) if a != b), 0)
    start = max(0, same - LONGEST_VALUE // 2)
    old, new = ("…" * bool(start) + shown(text[start:], LONGEST_VALUE) for text in texts)
    line = f"{place} is {new}, recorded {old}"
    if field_of(path) not in varying.fields:
        return line
    return f"{line}: declared as varying, but it must be {kind_of(before)}"


def _text(value: Any, is_json: bool) -> str:
    if is_json and value is not MISSING:
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def to_declare(
    values: Iterable[tuple[Path, Any]], varying: Varying, now: float, *, ids: bool
) -> Varying | None:
    """Return what to declare as varying because it differs in every run, if anything.

    Args:
        values: The values, with their paths in a request.
        varying: What is declared already. It is part of the result.
        now: The time, in seconds since the epoch.
        ids: Whether any long hexadecimal id counts. Some are constants.
    """
    fields, keys = dict.fromkeys(varying.fields), dict.fromkeys(varying.keys)
    for path, value in values:
        pattern = _pattern(str(value), now, ids)
        if pattern == str(value) or field_of(path) in fields:
            continue
        if field_of(path):
            fields[field_of(path)] = None
        elif meaning_of(path) == "key" and pattern != "*" and not varying.covers(value, value):
            keys[pattern] = None
    found = Varying(tuple(fields), tuple(keys))
    return found if found != varying else None


def _pattern(text: str, now: float, ids: bool) -> str:
    """Return a text with `*` for each part that was made now."""

    def replaced(made: re.Match[str]) -> str:
        moment = made["date"] or made["time"]
        near = moment in _texts_of(now) if moment else abs(int(made["epoch"] or now) - now) < _DAY
        return "*" if near and (ids or not made["id"]) else made[0]

    return _NEW_IN_EACH_RUN.sub(replaced, text)


@lru_cache(maxsize=1)
def _texts_of(now: float) -> set[str]:
    """Return the dates and times of day around a moment, in UTC and in local time."""
    dates = {strftime("%Y-%m-%d", gmtime(now + days * _DAY)) for days in (-1, 0, 1)}
    minutes = [now + 60 * minutes for minutes in range(-3, 4)]
    return dates | {strftime("%H:%M", zone(at)) for at in minutes for zone in (gmtime, localtime)}
