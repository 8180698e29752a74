"""What the doctor asks the database, beside the table of wrong set-ups."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.cli import (
    Gate,
    Tool,
    names,
)
from upstash_state.cli.doctor import database
from upstash_state.local import LocalEndpoint

from .conftest import Doctor
from .test_wrong_setups import answering, refusing


@pytest.mark.parametrize(
    "answer",
    [
        answering("INFO", "# Memory\r\n"),
        answering("INFO", None),
        answering("INFO", "used_memory:much\r\nmaxmemory:-1"),
        refusing("INFO", "ERR Command is not available: 'INFO'"),
    ],
)
def test_a_server_may_hide_how_much_memory_is_used(
    gate: Gate, capsys: pytest.CaptureFixture[str], answer: Any
) -> None:
    gate.answer = answer
    status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert "memory      the server does not say" in out


def test_a_slow_round_trip_is_a_warning(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = itertools.accumulate(itertools.cycle([0, 0.3]))
    monkeypatch.setattr(database, "perf_counter", lambda: next(took))
    doctor.warns("round trip", r"300 ms, the median of 5 \(300 to 300\)", "nearby region")


def test_in_background_mode_a_slow_round_trip_is_fine(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = itertools.accumulate(itertools.cycle([0, 0.3]))
    monkeypatch.setattr(database, "perf_counter", lambda: next(took))
    monkeypatch.setenv("UPSTASH_STATE_BACKGROUND", "1")
    assert "ok       round trip  300 ms" in tool("doctor").out


@pytest.mark.parametrize("status", [404, 200])
def test_a_server_without_transactions_gets_a_warning(
    gate: Gate, doctor: Doctor, status: int
) -> None:
    gate.answer_path = lambda path: (status, "nothing here") if path == "/multi-exec" else None
    doctor.warns("transaction", "does not work: ", "use pipeline.transaction=False")


def test_a_server_without_pipelines_is_wrong(gate: Gate, doctor: Doctor) -> None:
    gate.answer_path = lambda path: (404, "nothing here") if path == "/pipeline" else None
    doctor.finds("pipeline", "HTTP status 404", "something else answers")


def test_pauses_after_429_are_not_a_slow_round_trip(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = itertools.accumulate(itertools.cycle([0, 0.3]))
    monkeypatch.setattr(database, "perf_counter", lambda: next(took))
    # One ping for "endpoint", one for "token", the third is measured.
    gate.answer = lambda body: (429, "") if len(_pings(gate)) == 3 else None
    doctor.warns("round trip", "repeated after HTTP status 429", "too many requests in a short")


def _pings(gate: Gate) -> list[Any]:
    return [body for body in gate.seen if names(body) == ["PING"]]
