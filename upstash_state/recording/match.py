"""Which recorded exchange answers a request. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .exchange import Exchange, Request

# Their arguments are patterns and numbers, never keys.
_KEYLESS = frozenset({"SCAN", "KEYS"})
# What follows these is a moment, which differs in every run.
_BEFORE_A_MOMENT = frozenset({"EXAT", "PXAT"})
_KINDS = (
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d){0,2})?",
    r"\d{4}-\d\d-\d\d",
    r"\d\d:\d\d(:\d\d([.,]\d+)?)?",
    r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    r"[+-]?\d+",
    r"[+-]?\d+\.\d+",
    r"[0-9a-fA-F]{8,}",
    r"",
)

#: The keys and indexes on the way to a value inside JSON.
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Varying:
    """What differs from run to run and is compared by shape.

    Attributes:
        fields: Paths inside stored JSON: `created_at`, `customer.id`, `status_history[].timestamp`.
        keys: Patterns of Redis keys with `*` for the part that varies: `order:*`.
    """

    fields: Sequence[str] = ()
    keys: Sequence[str] = ()

    @classmethod
    def of(cls, varying: Iterable[str] = (), varying_keys: Iterable[str] = ()) -> Varying:
        """As it is declared: a single one may stand without a list."""
        both = (varying, varying_keys)
        return cls(*((given,) if isinstance(given, str) else tuple(given) for given in both))

    def __str__(self) -> str:
        """The arguments that declare it."""
        declared = {"varying": dict.fromkeys(self.fields), "varying_keys": dict.fromkeys(self.keys)}
        return ", ".join(f"{name}={json.dumps([*on])}" for name, on in declared.items() if on)

    def and_also(self, fields: Iterable[str] = (), keys: Iterable[str] = ()) -> Varying:
        """What is declared here, and more."""
        return Varying((*self.fields, *fields), (*self.keys, *keys))

    def allows(self, command: str, recorded: str, sent: str) -> bool:
        """Whether one argument of a command may stand for the other."""
        keys = () if command.upper() in _KEYLESS else self.keys
        if recorded == sent or any(_same_but_varying(key, recorded, sent) for key in keys):
            return True
        return is_json(recorded) and not self.differences(recorded, sent)

    def differences(self, recorded: str, sent: str) -> list[tuple[str, Any, Any]]:
        """Where two texts of JSON differ, but for what is declared: path and both values.

        The path is empty where they differ in more than values.
        """
        first, second = (dict(self.leaves(text)) for text in (recorded, sent))
        if first.keys() != second.keys():
            return [("", recorded, sent)]
        return [
            (shown(path), value, second[path])
            for path, value in first.items()
            # Python takes 1, 1.0 and True for equal; what is stored differs.
            if repr(value) != repr(second[path])
            and not (shown(path) in self.fields and same_shape(value, second[path]))
        ]

    def leaves(self, text: str) -> list[tuple[Path, Any]]:
        """The values in a text of JSON. What is declared is one value, and so is other text."""
        try:
            return list(self._leaves(json.loads(text), ()))
        except (ValueError, RecursionError):
            return [((), text)]

    def _leaves(self, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        if not isinstance(value, (dict, list)) or not value or shown(path) in self.fields:
            yield path, value
        else:
            for key, member in value.items() if isinstance(value, dict) else enumerate(value):
                yield from self._leaves(member, (*path, key))


def shown(path: Path) -> str:
    """A path as it is declared."""
    return "".join("[]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def is_json(text: str) -> bool:
    """Whether an argument is compared as JSON."""
    return text.startswith(("{", "["))


def _same_but_varying(key: str, recorded: str, sent: str) -> bool:
    pattern = "(.*)".join(map(re.escape, key.split("*")))
    first, second = (re.fullmatch(pattern, text, re.DOTALL) for text in (recorded, sent))
    return bool(first and second and all(map(same_shape, first.groups(), second.groups())))


def same_shape(first: Any, second: Any) -> bool:
    """Whether two JSON values are of one type, and two texts of one kind.

    Kinds of text are: a timestamp, a date, a time, a UUID, a whole number, a number with a point,
    eight or more hexadecimal digits, nothing, and any other text.
    """
    if type(first) is not type(second):
        return False
    if not isinstance(first, str):
        return True
    kinds = kinds_of(first), kinds_of(second)
    # A hexadecimal id may happen to hold digits only, and then it is a number as well.
    return not any(kinds) or bool(kinds[0] & kinds[1])


def kinds_of(text: str) -> set[int]:
    """The kinds of text that it is of; none for any other text."""
    return {number for number, kind in enumerate(_KINDS) if re.fullmatch(kind, text)}


class Replay:
    """Recorded exchanges, each to be used once. Not for several threads at once.

    Args:
        exchanges: What was recorded, in order.
        varying: What is compared by shape.
    """

    def __init__(self, exchanges: Sequence[Exchange], varying: Varying) -> None:
        self.exchanges = exchanges
        self.varying = varying
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
        pairs = arguments(exchange.request, request)
        self._now.update({recorded: sent for _, _, recorded, sent in pairs if recorded != sent})
        if self._now and exchange.answer is not None:
            return exchange.with_answer(self._up_to_date(exchange.answer))
        return exchange

    def unused(self) -> list[int]:
        """The indexes of the exchanges that no request has used."""
        return [index for index, used in enumerate(self._used) if not used]

    def _matching(self, request: Request) -> Iterator[int]:
        unused = self.unused()
        # First those that fit exactly, or several orders with varying ids would get each
        # other's answers when a run asks for them in another order.
        for index in unused:
            recorded = self.exchanges[index].request
            now = recorded.path, self._up_to_date(recorded.commands)
            if now == (request.path, request.commands):
                yield index
        for index in unused:
            recorded = self.exchanges[index].request
            if recorded.shape == request.shape and all(
                self._may_stand_for(*each) for each in arguments(recorded, request)
            ):
                yield index

    def _may_stand_for(self, command: str, before: str, recorded: str, sent: str) -> bool:
        if before.upper() in _BEFORE_A_MOMENT:
            return same_shape(recorded, sent)
        if before.upper() == "PX" and recorded.isdecimal() and sent.isdecimal():
            # What is sent late expires as if it had been sent in time.
            return abs(int(recorded) - int(sent)) <= int(recorded) / 100
        if recorded in self._now and not is_json(recorded):
            # A key that stands for another one in this run goes on to do so.
            return self._now[recorded] == sent
        return self.varying.allows(command, recorded, sent)

    def _up_to_date(self, recorded: Any) -> Any:
        """What was recorded, as it is in this run."""
        if isinstance(recorded, str):
            return self._now.get(recorded, recorded)
        if isinstance(recorded, dict):
            return {key: self._up_to_date(value) for key, value in recorded.items()}
        if isinstance(recorded, (list, tuple)):
            return type(recorded)(map(self._up_to_date, recorded))
        return recorded


def arguments(recorded: Request, sent: Request) -> Iterator[tuple[str, str, str, str]]:
    """The arguments of the same commands: the command, what stands before it, and both values."""
    for command, other in zip(recorded.commands, sent.commands, strict=True):
        for before, first, second in zip(command, command[1:], other[1:]):
            yield command[0], before, first, second
