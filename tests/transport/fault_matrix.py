"""One fault against every function: what each call gave, and what is wrong with that.

Runs in a process of its own, since the functions share one client for the process.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import upstash_state as module
from tests.support.clock import Stopwatch
from tests.support.faults import FAULTS, Certificates, Fault, FaultServer, Kind, Stage
from upstash_state.transport import deadline, exchange, http

# Seconds for a call: few where it is sure to use them up, more where it has something else to show,
# on a machine that is busy with other things, too.
BUDGET_IN_VAIN, BUDGET_SILENT, BUDGET = 1.0, 4.0, 10.0
# What a budget may be overrun by.
MARGIN = 0.1
# Small, so that the matrix is done in a minute or two. Their true values are other tests'.
FIRST_PAUSE = 0.005
MAX_ANSWER_BYTES = 2**22
LONGEST_LINE = 1000

ORDERS: dict[str, dict[str, Any]] = {
    str(number): {
        "name": f"#{number}",
        "created_at": datetime(2025, 12, number, 11, tzinfo=timezone.utc),
        "payload": {"title": "Zoë's Döner 🔴", "price": "1,50€"},
    }
    for number in (1, 2, 3)
}
TEXTS = {number: module.serialize_order(order) for number, order in ORDERS.items()}


@dataclass(frozen=True)
class Function:
    """One of the eight, and what it has to give."""

    call: Callable[[], Any]
    right: Any
    fallback: Any
    name: str
    order_id: str | None = None
    local: bool = False


EIGHT = (
    Function(
        lambda: type(module.get_redis_client()),
        module.UpstashRedis,
        type(None),
        "get_redis_client",
    ),
    Function(
        lambda: module.redis_save_order("1", ORDERS["1"]), True, False, "redis_save_order", "1"
    ),
    Function(lambda: module.redis_get_order("2"), ORDERS["2"], None, "redis_get_order", "2"),
    Function(lambda: module.redis_delete_order("4"), True, False, "redis_delete_order", "4"),
    Function(lambda: module.redis_get_all_orders(), ORDERS, {}, "redis_get_all_orders"),
    Function(lambda: module.redis_get_order_count(), 3, 0, "redis_get_order_count"),
    Function(
        lambda: module.serialize_order(ORDERS["1"]), TEXTS["1"], None, "serialize_order", local=True
    ),
    Function(
        lambda: module.deserialize_order(TEXTS["1"]),
        ORDERS["1"],
        None,
        "deserialize_order",
        local=True,
    ),
)
PAGED = ("redis_get_all_orders", "redis_get_order_count")
# A refusal of size is answered with smaller batches, of which the next may fit.
OF_SIZE = ("request_too_large", "html_with_413")
# A restore goes on after these, or asks again for less.
MORE_THAN_ONCE = (
    "kept_connection_swallowed",
    "gzip_bomb",
    "endless_body",
    "endless_chunked_body",
    "scan_that_never_ends",
)


@dataclass
class Report:
    """What came of one fault."""

    cells: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0


class Records(logging.Handler):
    """All records of all loggers, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def lines(self) -> list[logging.LogRecord]:
        """What an operator sees, but urllib3's own report of headers that it could not parse."""
        return [
            record
            for record in self.all
            if record.levelno >= logging.WARNING
            and not record.msg.startswith("Failed to parse headers")
        ]

    def holding(self, secret: str) -> list[str]:
        formatter = logging.Formatter("%(message)s")
        return [
            record.name
            for record in self.all
            if secret in formatter.format(record) or secret in repr(vars(record))
        ]


@cache
def certificates() -> Certificates:
    return Certificates(Path(tempfile.mkdtemp()))


@contextmanager
def logging_to(records: Records) -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(records)
        root.setLevel(level)


def run(name: str, tls: bool) -> Report:
    """Try one fault on every function: on first use and later, once and for good."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    exchange.FIRST_PAUSE = FIRST_PAUSE
    http.MAX_ANSWER_BYTES = MAX_ANSWER_BYTES
    # Here a kept connection is forgotten without having been idle.
    deadline.SUSPECT_AFTER = 0.0
    report, records = Report(), Records()
    with (
        FaultServer() as elsewhere,
        FaultServer(certificates() if tls else None) as server,
        logging_to(records),
    ):
        server.elsewhere = elsewhere.url
        server.pace = 0.05
        os.environ.update(
            UPSTASH_REDIS_REST_URL=server.url,
            UPSTASH_REDIS_REST_TOKEN=server.token,
            REQUESTS_CA_BUNDLE=str(certificates().bundle) if tls else "",
        )
        # What the first call of a process imports takes no part of a budget.
        module.get_redis_client()
        for function, start, once in itertools.product(
            EIGHT, ("cold", "warm", "midway"), (True, False)
        ):
            if start == "midway" and (
                function.name not in PAGED or fault.stage is not Stage.ANSWERING
            ):
                continue
            if once and fault.stage is Stage.LISTENING:
                # Nobody is there to count; `test_listening_again` has this one.
                continue
            cell = Cell(fault, function, start, once, server, records)
            problems = list(cell.problems())
            if elsewhere.requests:
                problems.append("the request went to another host")
                elsewhere.requests.clear()
            report.problems += [f"{cell}: {problem}" for problem in problems]
            report.cells[cell.outcome] += 1
            report.longest = max(report.longest, cell.seconds)
        module.reset_client(flush=False)
    return report


class Cell:
    """One fault, one function, one moment."""

    def __init__(
        self,
        fault: Fault,
        function: Function,
        start: str,
        once: bool,
        server: FaultServer,
        records: Records,
    ) -> None:
        self.fault, self.function, self.start, self.once = fault, function, start, once
        self.server, self.records = server, records
        # A kept connection is given half of the budget before it is replaced.
        silent = fault.kind is Kind.SILENT or fault.name == "kept_connection_swallowed"
        # HTTP status 429 is waited for until the budget ends.
        in_vain = not once and (silent or "429" in fault.cause)
        self.budget = BUDGET_IN_VAIN if in_vain else BUDGET_SILENT if silent else BUDGET
        self.outcome = ""
        self.seconds = 0.0

    def __str__(self) -> str:
        lasting = "once" if self.once else "for good"
        return f"{self.function.name} {self.start}, {lasting}"

    def problems(self) -> Iterator[str]:
        """Do it, and say what is wrong."""
        server, function = self.server, self.function
        module.reset_client(flush=False)
        os.environ["UPSTASH_STATE_TIMEOUT"] = str(self.budget)
        server.clear()
        for number, text in TEXTS.items():
            server.redis.run(["SET", f"order:{number}", text])
        server.redis.page = 2
        if self.start != "cold":
            module.get_redis_client()
        self.records.all.clear()
        server.requests.clear()
        server.plan(
            self.fault, times=1 if self.once else None, after=1 if self.start == "midway" else 0
        )
        with Stopwatch() as watch:
            value = function.call()
        self.seconds = watch.seconds
        struck = server.struck[self.fault.name]
        met = struck > 0 or (self.fault.stage is Stage.LISTENING and self._asks())
        asked = len(server.requests)
        yield from self._value(value, met)
        yield from self._log()
        if function.local and asked:
            yield "it asked the endpoint"
        if self.seconds > self._limit():
            yield f"it took {self.seconds:.3f} s"
        if self._refused_at_once() and struck > 1:
            yield f"it was asked again after a refusal: {struck} times"
        # The next call finds an endpoint that works.
        server.clear()
        self.records.all.clear()
        if function.call() != function.right:
            yield f"the next call failed: {[r.getMessage() for r in self.records.lines()]}"
        if server.redis.texts != {f"order:{number}": text for number, text in TEXTS.items()}:
            yield "the orders in Redis are no longer right"

    def _asks(self) -> bool:
        function = self.function
        return not function.local and (self.start == "cold" or function.name != "get_redis_client")

    def _refused_at_once(self) -> bool:
        halved = self.fault.name in OF_SIZE and self.function.name == "redis_get_all_orders"
        return self.fault.kind is Kind.REFUSAL and not halved

    def _limit(self) -> float:
        limit = self.budget * (1 + MARGIN)
        restores = self.function.name == "redis_get_all_orders"
        # A restore has its budget for each exchange. All but these faults end it at the first.
        return limit * 4 if restores and self.fault.name in MORE_THAN_ONCE else limit

    def _value(self, value: Any, met: bool) -> Iterator[str]:
        function, kind = self.function, self.fault.kind
        right = value == function.right and type(value) is type(function.right)
        fallback = value == function.fallback and type(value) is type(function.fallback)
        self.outcome = "right value" if right else "fall-back value" if fallback else "neither"
        if not met:
            self.outcome += ", fault not met"
            may_be = {True}
        elif kind is Kind.HARMLESS or (kind is Kind.PASSING and self.once):
            may_be = {True}
        elif self._refused_at_once() or not self.once:
            may_be = {False}
        else:
            may_be = {True, False}
        if not (right or fallback) or right not in may_be:
            yield f"it gave {value!r:.200}"
        lines = [record.getMessage() for record in self.records.lines()]
        if len(lines) != (0 if right else 1):
            yield f"it logged {len(lines)} lines: {lines}"

    def _log(self) -> Iterator[str]:
        for record in self.records.lines():
            line = record.getMessage()
            if not re.search(self.fault.cause, line):
                yield f"the cause is not named: {line}"
            if "\n" in line or len(line) > LONGEST_LINE:
                yield f"not one line to read: {line!r:.100}"
            operation = getattr(record, "operation", None), getattr(record, "order_id", None)
            if operation != (self.function.name, self.function.order_id):
                yield f"the record's extra is {operation}"
            if record.exc_info:
                yield f"taken for a fault of the package itself: {record.exc_info[1]!r}"
        for name in self.records.holding(self.server.token):
            yield f"the token is in a record of {name}"
