"""Which recorded exchange answers a request, and what to say when none does. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .exchange import Exchange, Request, indented

# A diff of more lines is not read.
MOST_LINES = 60
# Their arguments are patterns and numbers, never keys.
_KEYLESS = frozenset({"SCAN", "KEYS"})
_KINDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d){0,2})?",
        r"\d{4}-\d\d-\d\d",
        r"\d\d:\d\d(:\d\d([.,]\d+)?)?",
        r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
        r"[+-]?\d+",
        r"[+-]?\d+\.\d+",
        r"[0-9a-fA-F]{8,}",
        r"",
    )
)


class Varying:
    """What differs from run to run and is compared by shape.

    Args:
        fields: Paths inside stored JSON: `created_at`, `customer.id`, `status_history[].timestamp`.
        keys: Patterns of Redis keys with `*` for the part that varies: `order:*`.
    """

    def __init__(self, fields: Iterable[str] = (), keys: Iterable[str] = ()) -> None:
        self._fields = frozenset(fields)
        self._keys = [
            re.compile("(.*)".join(map(re.escape, key.split("*"))), re.DOTALL) for key in keys
        ]

    def allows(self, command: str, recorded: str, sent: str) -> bool:
        """Whether one argument of a command may stand for the other."""
        if recorded == sent:
            return True
        if command.upper() not in _KEYLESS and any(
            self._same_but_varying(key, recorded, sent) for key in self._keys
        ):
            return True
        try:
            return _is_json(recorded) and self._alike(json.loads(recorded), json.loads(sent), "")
        except (ValueError, RecursionError):
            return False

    @staticmethod
    def _same_but_varying(key: re.Pattern[str], recorded: str, sent: str) -> bool:
        first, second = key.fullmatch(recorded), key.fullmatch(sent)
        return (
            first is not None
            and second is not None
            and all(map(same_shape, first.groups(), second.groups()))
        )

    def _alike(self, recorded: Any, sent: Any, path: str) -> bool:
        if path in self._fields and same_shape(recorded, sent):
            return True
        if isinstance(recorded, dict) and isinstance(sent, dict):
            return recorded.keys() == sent.keys() and all(
                self._alike(recorded[key], sent[key], f"{path}.{key}" if path else key)
                for key in recorded
            )
        if isinstance(recorded, list) and isinstance(sent, list):
            return len(recorded) == len(sent) and all(
                self._alike(first, second, f"{path}[]")
                for first, second in zip(recorded, sent, strict=True)
            )
        # Python takes 1, 1.0 and True for equal; what is stored differs.
        return repr(recorded) == repr(sent)


def same_shape(first: Any, second: Any) -> bool:
    """Whether two JSON values are of one type, and two texts of one kind.

    Kinds of text are: a timestamp, a date, a time, a UUID, a whole number, a number with a point,
    eight or more hexadecimal digits, nothing, and any other text.
    """
    if type(first) is not type(second):
        return False
    if not isinstance(first, str):
        return True
    kinds = _kinds(first), _kinds(second)
    # A hexadecimal id may happen to hold digits only, and then it is a number as well.
    return not any(kinds) or bool(kinds[0] & kinds[1])


def _kinds(text: str) -> set[int]:
    return {number for number, kind in enumerate(_KINDS) if kind.fullmatch(text)}


def _is_json(text: str) -> bool:
    return text.startswith(("{", "["))


class Replay:
    """Recorded exchanges, each to be used once. Not for several threads at once.

    Args:
        exchanges: What was recorded, in order.
        varying: What is compared by shape.
    """

    def __init__(self, exchanges: Sequence[Exchange], varying: Varying) -> None:
        self.exchanges = exchanges
        self._varying = varying
        self._used = [False] * len(exchanges)
        #: What stands in this run for what was recorded: keys, and stored text.
        self._now: dict[str, str] = {}

    def answer(self, request: Request) -> Exchange | None:
        """The next unused exchange for a request, or None."""
        index = next(self._matching(request), None)
        if index is None:
            return None
        self._used[index] = True
        exchange = self.exchanges[index]
        self._now.update(_differences(exchange.request, request))
        if self._now and exchange.answer is not None:
            return exchange.with_answer(self._up_to_date(exchange.answer))
        return exchange

    def unused(self) -> list[int]:
        """The indexes of the exchanges that no request has used."""
        return [index for index, used in enumerate(self._used) if not used]

    def nearest(self, request: Request) -> int | None:
        """The index of the exchange that is most like a request, if there is any."""

        def likeness(index: int) -> tuple[float, bool, int]:
            recorded = lines_of(self.exchanges[index].request)
            ratio = difflib.SequenceMatcher(None, recorded, lines).quick_ratio()
            return ratio, not self._used[index], -index

        lines = lines_of(request)
        return max(range(len(self.exchanges)), key=likeness, default=None)

    def was_used(self, index: int) -> bool:
        return self._used[index]

    def _matching(self, request: Request) -> Iterator[int]:
        unused = self.unused()
        # First those that fit exactly, or several orders with varying ids would get each
        # other's answers when a run asks for them in another order.
        for index in unused:
            if self._up_to_date_request(self.exchanges[index].request) == request:
                yield index
        for index in unused:
            if self._may_stand_for(self.exchanges[index].request, request):
                yield index

    def _may_stand_for(self, recorded: Request, sent: Request) -> bool:
        return (
            recorded.path == sent.path
            and len(recorded.commands) == len(sent.commands)
            and all(map(self._command_may, recorded.commands, sent.commands))
        )

    def _command_may(self, recorded: Sequence[str], sent: Sequence[str]) -> bool:
        name = recorded[0]
        return (
            name == sent[0]
            and len(recorded) == len(sent)
            and all(self._arg_may(name, *pair) for pair in zip(recorded, sent, strict=True))
        )

    def _arg_may(self, command: str, recorded: str, sent: str) -> bool:
        if recorded in self._now and not _is_json(recorded):
            # A key that stands for another one in this run goes on to do so.
            return self._now[recorded] == sent
        return self._varying.allows(command, recorded, sent)

    def _up_to_date_request(self, recorded: Request) -> Request:
        if not self._now:
            return recorded
        commands = tuple(
            tuple(self._now.get(arg, arg) for arg in command) for command in recorded.commands
        )
        return Request(recorded.path, commands)

    def _up_to_date(self, answer: Any) -> Any:
        if isinstance(answer, str):
            return self._now.get(answer, answer)
        if isinstance(answer, list):
            return [self._up_to_date(item) for item in answer]
        if isinstance(answer, dict):
            return {key: self._up_to_date(value) for key, value in answer.items()}
        return answer


def _differences(recorded: Request, sent: Request) -> dict[str, str]:
    return {
        first: second
        for commands in zip(recorded.commands, sent.commands, strict=True)
        for first, second in zip(*commands, strict=True)
        if first != second
    }


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
    lines = list(
        difflib.unified_diff(
            lines_of(recorded), lines_of(sent), "recorded", "sent", lineterm="", n=2
        )
    )
    left_out = len(lines) - MOST_LINES
    return lines if left_out <= 0 else [*lines[:MOST_LINES], f"(and {left_out} lines more)"]


def explain_unmatched(request: Request, times: int, replay: Replay) -> list[str]:
    """What to say of a request that no recorded exchange answers."""
    lines = [f"  {request}" + (f" (sent {times} times)" if times > 1 else "")]
    index = replay.nearest(request)
    if index is None:
        return [*lines, "    The recording holds no exchange at all."]
    recorded = replay.exchanges[index].request
    place = f"exchange {index + 1} of {len(replay.exchanges)}"
    if recorded == request:
        same = sum(exchange.request == request for exchange in replay.exchanges)
        return [*lines, f"    It is recorded as {place}, {same} in all, each used already."]
    used = ", used already" if replay.was_used(index) else ""
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
