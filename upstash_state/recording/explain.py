"""What to say of requests and recordings that do not fit. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from time import gmtime, strftime
from typing import Any, NamedTuple

from .exchange import Request, indented
from .match import Replay, Varying, arguments, is_json, kinds_of

# A diff of more lines is not read.
MOST_LINES = 60

_DAY = 24 * 60 * 60
# Words, and what stands between them. A UUID is one word.
_WORDS = re.compile(r"[A-Za-z0-9-]+|[^A-Za-z0-9-]")
# A date, seconds or milliseconds since the epoch, and what uuid1, uuid4 and uuid7 make (RFC 9562:
# version and variant), with and without dashes.
_MADE_ANEW = re.compile(
    r"(?i)\d{4}-\d\d-\d\d|\b\d{10}(?:\d{3})?\b|(?P<unique>\b[0-9a-f]{8}(?P<dash>-?)[0-9a-f]{4}(?P=dash)"
    r"[147][0-9a-f]{3}(?P=dash)[89ab][0-9a-f]{3}(?P=dash)[0-9a-f]{12}\b)"
)


class Options(NamedTuple):
    """How a recording is used."""

    #: What is compared by shape.
    varying: Varying
    #: Whether recorded exchanges, and faults, may stay unused.
    allow_unused: bool
    #: How to record again.
    again: str
    #: How to declare what varies, with `{}` for the arguments.
    declare: str
    #: How to record without a database.
    without_database: str


def explain_unmatched(unmatched: Mapping[Request, int], replay: Replay) -> list[str]:
    """What to say of requests that no recorded exchange answers, and how often each was sent."""
    return [
        line
        for request, times in unmatched.items()
        for line in _explain_unmatched(request, times, replay)
    ]


def _explain_unmatched(request: Request, times: int, replay: Replay) -> list[str]:
    lines = [f"  {request}" + (f" (sent {times} times)" if times > 1 else "")]
    index = nearest(request, replay)
    if index is None:
        name = request.commands[0][0] if request.commands else "empty request"
        return [*lines, f"    No {name} to {request.path} is recorded."]
    recorded = replay.exchanges[index].request
    place = f"exchange {index + 1} of {len(replay.exchanges)}"
    if recorded == request:
        same = sum(exchange.request == request for exchange in replay.exchanges)
        return [*lines, f"    It is recorded as {place}, {same} in all, each used already."]
    used = "" if index in replay.unused() else ", used already"
    lines.append(f"    Nearest is {place}{used}:")
    return lines + [f"      {line}" for line in difference(recorded, request)]


def explain_unused(replay: Replay, in_teardown: bool) -> list[str]:
    """What to say of exchanges that no request has asked for.

    Args:
        replay: The exchanges.
        in_teardown: Whether to count those of the clean-up.
    """
    return [
        f"  exchange {index + 1}: {replay.exchanges[index].request}"
        for index in replay.unused()
        if in_teardown or not replay.exchanges[index].in_teardown
    ]


def nearest(request: Request, replay: Replay) -> int | None:
    """The index of the exchange with the same command that is most like a request, if any."""

    def likeness(index: int) -> tuple[bool, float, bool, int]:
        recorded = replay.exchanges[index].request
        ratio = difflib.SequenceMatcher(None, lines_of(recorded), lines).quick_ratio()
        return recorded.shape == request.shape, ratio, index in unused, -index

    lines, unused = lines_of(request), set(replay.unused())
    names = {command[0] for command in request.commands}
    alike = [
        index
        for index, exchange in enumerate(replay.exchanges)
        if exchange.request.path == request.path
        and {command[0] for command in exchange.request.commands} == names
    ]
    return max(alike, key=likeness, default=None)


def lines_of(request: Request) -> list[str]:
    """A request for reading and comparing: its path, then a line for each argument."""
    lines = [f"POST {request.path}"]
    for command in request.commands:
        lines.append(" ".join(command[:1]))
        for arg in command[1:]:
            block = indented(arg)
            lines += [f"  {line}" for line in ([arg] if block is None else block.splitlines())]
    return lines


def difference(recorded: Request, sent: Request) -> list[str]:
    """A unified diff of two requests."""
    both = lines_of(recorded), lines_of(sent)
    lines = list(difflib.unified_diff(*both, "recorded", "sent", lineterm="", n=2))
    left_out = len(lines) - MOST_LINES
    return lines if left_out <= 0 else [*lines[:MOST_LINES], f"(and {left_out} lines more)"]


def what_varies(unmatched: Iterable[Request], replay: Replay) -> Varying | None:
    """What to declare as varying, if nothing but values that vary by their nature does not fit."""
    varying = replay.varying
    for sent in unmatched:
        index = nearest(sent, replay)
        recorded = sent if index is None else replay.exchanges[index].request
        if recorded == sent or recorded.shape != sent.shape:
            return None
        for command, _, first, second in arguments(recorded, sent):
            if not varying.allows(command, first, second):
                varying = varying.and_also(*_declaration(varying, first, second))
                if not varying.allows(command, first, second):
                    return None
    return varying if str(varying) != str(replay.varying) else None


def _declaration(varying: Varying, recorded: str, sent: str) -> tuple[list[str], list[str]]:
    """The fields and keys to declare for two arguments."""
    if is_json(recorded):
        differences = varying.differences(recorded, sent)
        return [path for path, *values in differences if path and _may_vary(*values)], []
    words = list(zip_longest(_WORDS.findall(recorded), _WORDS.findall(sent)))
    key = "".join(first if first == second else "*" for first, second in words)
    # A whole argument is a number such as an expiry, which does not vary by its nature.
    fits = key != "*" and all(
        first == second or _may_vary(first, second) for first, second in words
    )
    return [], [key] if fits else []


def _may_vary(first: Any, second: Any) -> bool:
    if isinstance(first, str) and isinstance(second, str):
        return bool(kinds_of(first) & kinds_of(second))
    return type(first) is type(second) and type(first) in (int, float)


def foreseen(requests: Iterable[Request], varying: Varying, now: float) -> Varying | None:
    """What to declare as varying since it will differ in the next run, so far as can be told.

    Args:
        requests: What has been recorded.
        varying: What is declared already.
        now: The time, in seconds since the epoch.
    """
    days = {strftime("%Y-%m-%d", gmtime(now + distance)) for distance in (-_DAY, 0, _DAY)}

    def next_time(made: re.Match[str]) -> str:
        text = made[0]
        if text in days or (text.isdecimal() and abs(int(text[:10]) - now) < _DAY):
            return "1999-12-31" if text in days else "1" * len(text)
        return re.sub(r"\w", "0", text) if made["unique"] else text

    found = varying
    for arg in (arg for request in requests for command in request.commands for arg in command):
        other = _MADE_ANEW.sub(next_time, arg)
        if not varying.allows("", arg, other):
            found = found.and_also(*_declaration(varying, arg, other))
    return found if str(found) != str(varying) else None
