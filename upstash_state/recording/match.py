"""Find the recorded exchange that answers a request, and where the two differ. No I/O."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from .exchange import Exchange, Request, keys_of

_READS = {"GET", "MGET", "EXISTS", "TTL", "PTTL", "TYPE", "SCAN", "KEYS", "DBSIZE", "PING"}
# These concern all keys, so they name none.
_ALL_KEYS = {"SCAN", "KEYS", "DBSIZE", "FLUSHDB", "FLUSHALL"}
_OPTIONS = {"EX", "PX", "EXAT", "PXAT", "MATCH", "COUNT", "TYPE"}

_DIGESTS = re.compile(r"( [0-9a-f]{40}| -)+ ")

#: Kinds of text. Any other text is of the kind "plain text".
KINDS = {
    "a timestamp": r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d){0,2})?",
    "a date": r"\d{4}-\d\d-\d\d",
    "a time": r"\d\d:\d\d(:\d\d([.,]\d+)?)?",
    "a UUID": r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "a whole number": r"[+-]?\d+",
    "a decimal number": r"[+-]?\d+\.\d+",
    "a hexadecimal id": r"[0-9a-fA-F]{8,}",
    "an empty text": r"",
}

#: Replaces a value that only the other side has.
MISSING: Any = type("Missing", (), {"__repr__": lambda _: "nothing"})()
#: The step of a path into JSON text.
JSON: Any = type("Json", (), {})()
#: The keys and indexes on the way to a value. An argument is a pair: position and meaning.
Path = tuple[Any, ...]
#: The values in a request or an answer, by path.
Values = dict[Path, Any]
#: A path, and the recorded and the sent value.
Difference = tuple[Path, Any, Any]


def field_of(path: Path, index: str = "[]") -> str:
    """Return the place inside stored JSON as it is declared, or "" outside of JSON.

    Args:
        path: The path.
        index: How to write an index; "[{}]" shows its number.
    """
    inside = path[path.index(JSON) + 1 :] if JSON in path else ()
    steps = (index.format(key) if isinstance(key, int) else f".{key}" for key in inside)
    return "".join(steps).removeprefix(".")


def meaning_of(path: Path) -> str:
    """Return the meaning of an argument ("key", "EX", …), or "" inside JSON or an answer."""
    return str(path[-1][1]) if isinstance(path[-1], tuple) else ""


@dataclass(frozen=True)
class Varying:
    """Values that differ from run to run and are compared by their kind.

    Attributes:
        fields: Paths inside stored JSON: `created_at`, `customer.id`, `status_history[].timestamp`.
        keys: Patterns of Redis keys with `*` for the part that varies: `order:*`.
    """

    fields: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, varying: Iterable[str] = (), varying_keys: Iterable[str] = ()) -> Varying:
        """Create one from a user's options. A single text needs no list."""
        both = (varying, varying_keys)
        return cls(*(tuple([given] if isinstance(given, str) else given) for given in both))

    def __str__(self) -> str:
        """Return the options that declare it."""
        declared = {"varying": self.fields, "varying_keys": self.keys}
        return ", ".join(f"{name}={json.dumps([*on])}" for name, on in declared.items() if on)

    def values(self, data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
        """Return the values in a request or an answer, also those in JSON text, with their paths.

        What is declared is one value.
        """
        if isinstance(data, Request):
            data = [data.path, *map(_labelled, data.commands)]
        elif isinstance(data, str) and data.startswith(("{", "[")) and JSON not in path:
            with suppress(ValueError, RecursionError):
                data, path = json.loads(data), (*path, JSON)
        if not isinstance(data, (dict, list)) or field_of(path) in self.fields:
            yield path, data
        else:
            if JSON in path or not data:
                yield path, type(data)()
            for key, member in data.items() if isinstance(data, dict) else enumerate(data):
                yield from self.values(member, (*path, key))

    def same(self, path: Path, recorded: Any, sent: Any, now: Mapping[str, str]) -> bool:
        """Return whether a value may replace a recorded one.

        Args:
            path: Where they are.
            recorded: The recorded value.
            sent: The value that was sent.
            now: The keys of this run, by the recorded ones that they replace.
        """
        # Python takes 1, 1.0 and True for equal, but they are stored differently. NaN equals NaN.
        equal = type(recorded) is type(sent) and repr(recorded) == repr(sent)
        if JSON in path or not (isinstance(recorded, str) and isinstance(sent, str)):
            return equal or (field_of(path) in self.fields and same_kind(recorded, sent))
        meaning = meaning_of(path)
        if meaning in ("EXAT", "PXAT"):
            # A point in time differs in each run.
            return same_kind(recorded, sent)
        if meaning == "PX" and recorded.isdecimal() and sent.isdecimal():
            # The remaining time of a delayed write.
            return abs(int(recorded) - int(sent)) <= int(recorded) / 100
        if all(map(_DIGESTS.fullmatch, (recorded, sent))):
            # The script for delayed writes gets digests, here of texts with values that vary.
            return len(recorded) == len(sent)
        # Once a key of this run has replaced a recorded one, no other key may.
        may_vary = recorded not in now and meaning not in _OPTIONS and self.covers(recorded, sent)
        return may_vary or now.get(recorded, recorded) == sent

    def differences(
        self, recorded: Values, sent: Values, now: Mapping[str, str] | None = None
    ) -> Iterator[Difference]:
        """Find where values differ in more than what may vary."""
        for path in (*recorded, *(path for path in sent if path not in recorded)):
            both = recorded.get(path, MISSING), sent.get(path, MISSING)
            if not self.same(path, *both, now or {}):
                yield path, *both

    def covers(self, recorded: str, sent: str) -> bool:
        """Return whether the patterns let a key replace a recorded one."""
        for key in self.keys:
            pattern = "(.*)".join(map(re.escape, key.split("*")))
            both = [re.fullmatch(pattern, text, re.DOTALL) for text in (recorded, sent)]
            if all(both) and all(map(same_kind, *(match.groups() for match in both if match))):
                return True
        return False


def _labelled(command: Sequence[str]) -> dict[tuple[int, str], str]:
    labelled, keys = {(0, "command"): command[0]}, keys_of(command)
    for index, (before, arg) in enumerate(pairwise(command), 1):
        other = "key" if arg in keys else f"argument {index}"
        labelled[index, before.upper() if before.upper() in _OPTIONS else other] = arg
    return labelled


def same_kind(first: Any, second: Any) -> bool:
    """Return whether two JSON values have the same type, and two texts a kind in common."""
    return bool(_kinds_of(first) & _kinds_of(second))


def kind_of(value: Any) -> str:
    """Return what kind of text, or of which type, a JSON value is."""
    return min(_kinds_of(value))


def _kinds_of(value: Any) -> set[str]:
    if not isinstance(value, str):
        return {f"a value of type {type(value).__name__}"}
    # A hexadecimal id may happen to have digits only, and then it is a number as well.
    kinds = {name for name, pattern in KINDS.items() if re.fullmatch(pattern, value)}
    return kinds or {"plain text"}


class Replay:
    """Recorded exchanges, each to be used once. Not for several threads at once.

    Args:
        exchanges: The exchanges in the order in which they were recorded.
        varying: The values that are compared by their kind.

    Attributes:
        unmatched: The requests that no exchange has answered, and the threads that sent each.
        unused: The indexes of the exchanges that no request has used.
    """

    def __init__(self, exchanges: Sequence[Exchange], varying: Varying) -> None:
        self.exchanges = exchanges
        self.varying = varying
        self.unmatched: defaultdict[Request, list[str]] = defaultdict(list)
        self.unused = dict.fromkeys(range(len(exchanges)))
        self._values = [dict(varying.values(exchange.request)) for exchange in exchanges]
        self._in_order: list[int] = []
        #: The texts of this run (keys, stored JSON) by the recorded ones that they replace.
        self._now: dict[str, str] = {}

    def answer(self, request: Request, thread: str | None = "") -> Exchange | None:
        """Return the next unused exchange for a request, or None.

        Args:
            request: The request.
            thread: The thread that sent it: "" for the test's own, None for one that the test
                started, the name of any other. Requests of other threads have no order.
        """
        index = next(self._matching(request), None)
        if index is None:
            self.unmatched[request].append(thread or "")
            return None
        del self.unused[index]
        if thread == "":
            self._in_order.append(index)
        exchange = self.exchanges[index]
        for recorded, sent in zip(exchange.request.commands, request.commands):
            self._now.update(pair for pair in zip(recorded, sent) if pair[0] != pair[1])
        if self._now and exchange.answer is not None:
            return exchange.with_answer(self._up_to_date(exchange.answer))
        return exchange

    def reordered(self) -> tuple[int, int] | None:
        """Return two exchanges that were used in another order than recorded, if it matters.

        It matters if one of them writes, and they share a key or one concerns all keys.
        """
        for first, second in combinations(self._in_order, 2):
            if second < first and _depend(*(self.exchanges[i].request for i in (second, first))):
                return second, first
        return None

    def nearest(self, request: Request) -> tuple[int | None, list[Difference]]:
        """Return the index of the exchange that is most like a request, and where the two differ.

        None if no exchange has the same commands.
        """

        def distance(found: tuple[int, list[Difference]]) -> tuple[bool, int, bool]:
            index, differences = found
            other_key = any(meaning_of(path) == "key" for path, *_ in differences)
            return other_key, len(differences), index not in self.unused

        path, names = request.path, {command[0] for command in request.commands}
        sent = dict(self.varying.values(request))
        alike = [
            (index, list(self._differences(index, sent)))
            for index, one in enumerate(exchange.request for exchange in self.exchanges)
            if one.path == path and {command[0] for command in one.commands} == names
        ]
        return min(alike, key=distance, default=(None, []))

    def _matching(self, request: Request) -> Iterator[int]:
        # Exact matches first. Otherwise orders with varying ids would get each other's answers
        # when a run asks for them in another order.
        for index in self.unused:
            recorded = self.exchanges[index].request
            if recorded == request or (
                self._now and self._up_to_date(recorded.commands) == request.commands
            ):
                yield index
        sent = dict(self.varying.values(request))
        for index in self.unused:
            if not any(self._differences(index, sent)):
                yield index

    def _differences(self, index: int, sent: Values) -> Iterator[Difference]:
        return self.varying.differences(self._values[index], sent, self._now)

    def _up_to_date(self, recorded: Any) -> Any:
        """Return recorded data with the texts of this run."""
        if isinstance(recorded, dict):
            return {key: self._up_to_date(value) for key, value in recorded.items()}
        if isinstance(recorded, (list, tuple)):
            return type(recorded)(map(self._up_to_date, recorded))
        return self._now.get(recorded, recorded) if isinstance(recorded, str) else recorded


def _depend(*requests: Request) -> bool:
    names = {command[0].upper() for request in requests for command in request.commands}
    first, second = ({*request.keys} for request in requests)
    return not names <= _READS and bool(names & _ALL_KEYS or first & second)


def unchanged(before: Sequence[Exchange], after: Sequence[Exchange], varying: Varying) -> bool:
    """Return whether two recordings of a test differ in nothing but values that may vary."""

    def answered(exchange: Exchange) -> Values:
        answer = repr(exchange.body) if exchange.answer is None else exchange.answer
        facts = [exchange.status, dict(exchange.headers), exchange.in_teardown, answer]
        return dict(varying.values(facts))

    replay = Replay(before, varying)
    for exchange in after:
        found = replay.answer(exchange.request)
        if found is None or any(varying.differences(answered(found), answered(exchange))):
            return False
    return not replay.unused and not replay.reordered()
