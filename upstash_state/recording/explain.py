"""What to say of requests and recordings that do not fit. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import datetime
from itertools import zip_longest
from time import localtime, strftime
from typing import Any, NamedTuple

from .exchange import Request, indented
from .match import Replay, Varying, arguments, is_json, kinds_of, same_commands, shown

# A diff of more lines is not read, and one of more takes longer than anybody waits.
MOST_LINES = 60
MOST_COMPARED = 2000

# A date without a time zone, and what was to be delivered yesterday or is tomorrow, are in it.
_NEAR = 2 * 24 * 60 * 60.0
# Words, and what stands between them. A UUID is one word.
_WORDS = re.compile(r"[A-Za-z0-9-]+|[^A-Za-z0-9-]")
# As uuid1, uuid4 and uuid7 make them (RFC 9562: version and variant), with and without dashes.
_UNIQUE = re.compile(
    r"(?i)\b[0-9a-f]{8}(-?)[0-9a-f]{4}\1[147][0-9a-f]{3}\1[89ab][0-9a-f]{3}\1[0-9a-f]{12}\b"
)


class Advice(NamedTuple):
    """What to do, which depends on how the recording is used."""

    #: How to record again.
    again: str
    #: How to declare what varies, with `{}` for the arguments.
    declare: str
    #: How to record without a database.
    without_database: str


def explain_unmatched(request: Request, times: int, replay: Replay) -> list[str]:
    """What to say of a request that no recorded exchange answers."""
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


def explain_unused(replay: Replay, *, in_teardown: bool) -> list[str]:
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
        return same_commands(recorded, request), ratio, index in unused, -index

    lines = lines_of(request)
    unused = set(replay.unused())
    alike = [
        index
        for index, exchange in enumerate(replay.exchanges)
        if _names(exchange.request) == _names(request)
    ]
    return max(alike, key=likeness, default=None)


def _names(request: Request) -> tuple[str, set[str]]:
    return request.path, {command[0].upper() for command in request.commands}


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
    first, second = lines_of(recorded), lines_of(sent)
    same = next((n for n, pair in enumerate(zip(first, second)) if pair[0] != pair[1]), 0)
    begin = max(same - 2, 0)
    compared = slice(begin, begin + MOST_COMPARED)
    lines = list(
        difflib.unified_diff(
            first[compared], second[compared], "recorded", "sent", lineterm="", n=2
        )
    )
    left_out = len(lines) - MOST_LINES
    return lines if left_out <= 0 else [*lines[:MOST_LINES], f"(and {left_out} lines more)"]


def what_varies(unmatched: Iterable[Request], replay: Replay) -> Varying | None:
    """What to declare as varying, if nothing but values that vary by their nature does not fit."""
    varying = replay.varying
    for sent in unmatched:
        index = nearest(sent, replay)
        recorded = sent if index is None else replay.exchanges[index].request
        if recorded == sent or not same_commands(recorded, sent):
            return None
        for command, _, first, second in arguments(recorded, sent):
            if not varying.allows(command, first, second):
                varying = varying.and_also(*_declaration(varying, first, second))
                if not varying.allows(command, first, second):
                    return None
    return varying if varying != replay.varying else None


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
    found = varying
    for arg in (arg for request in requests for command in request.commands for arg in command):
        if is_json(arg):
            leaves = [(shown(path), value) for path, value in varying.leaves(arg)]
            differing = [path for path, value in leaves if path and _will_differ(value, now)]
            found = found.and_also(path for path in differing if path not in varying.fields)
        elif (other := _UNIQUE.sub(_zeros, arg)) != arg and not varying.allows("", arg, other):
            found = found.and_also(keys=[_UNIQUE.sub("*", arg)])
    return found if found != varying else None


def _zeros(unique: re.Match[str]) -> str:
    return re.sub(r"\w", "0", unique[0])


def _will_differ(value: Any, now: float) -> bool:
    """Whether it is an id that is made anew, or a moment about now."""
    moment = value
    if isinstance(value, str):
        if _UNIQUE.fullmatch(value) or value[:5] == strftime("%H:%M", localtime(now)):
            return True
        try:
            moment = datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError, OSError):
            return False
    if isinstance(moment, bool) or not isinstance(moment, (int, float)):
        return False
    return any(abs(moment / unit - now) < _NEAR for unit in (1, 1000))
