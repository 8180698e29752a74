"""The demo: what it prints, what it counts, what it names, and that it leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import SECONDS, TOKEN, Gate, Terminal, environment, names, piped, put, use
from tests.support.paths import STORED_ORDERS
from upstash_state import UpstashRedis
from upstash_state.cli.demo import SHIPPED, differences, read_orders
from upstash_state.cli.main import main
from upstash_state.local import LocalEndpoint


class Demo:
    """The demo in this process, and the second process that it starts."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, file: Path | None = None, endpoint: str = "env") -> tuple[int, str]:
        status = main(["demo", "--endpoint", endpoint, *([str(file)] if file else [])])
        out, err = self._capfd.readouterr()
        assert TOKEN not in out + err
        return status, out + err


@pytest.fixture
def demo(capfd: pytest.CaptureFixture[str]) -> Demo:
    return Demo(capfd)


def keys(endpoint: LocalEndpoint) -> list[str]:
    with UpstashRedis(endpoint.url, endpoint.token) as client:
        return client.keys()


def costs(shown: str) -> list[list[int]]:
    lines = re.findall(r"([0-9,]+) requests, ([0-9,]+) billed commands", shown)
    return [[int(number.replace(",", "")) for number in line] for line in lines]


def test_all_stored_orders_come_back_and_none_differs() -> None:
    status, out, err = piped(environment("", ""), "demo", str(STORED_ORDERS))
    assert (status, err) == (0, "")
    assert "restored 160 orders\n" in out
    assert "Comparing   160 orders: all equal\n" in out
    # SCAN, MGET: far from a command for each order.
    assert costs(out)[1][:2] == [2, 2]


def test_without_a_file_it_has_orders_of_its_own_which_another_process_restores() -> None:
    status, out, err = piped(environment("", ""), "demo")
    assert (status, err) == (0, "")
    assert f"Comparing   {len(read_orders(SHIPPED))} orders: all equal\n" in out
    saving, restoring = re.findall(r"process ([0-9]+)", out)
    assert saving != restoring


def test_in_your_own_database_it_touches_no_other_key_and_cleans_up(
    demo: Demo,
    few: LocalEndpoint,
) -> None:
    put(few, "order:5866", "the app's")
    status, out = demo()
    assert status == 0
    assert "3 orders: all equal" in out
    assert keys(few) == ["order:5866"]


def test_its_counts_are_those_of_the_endpoint(demo: Demo, few: LocalEndpoint) -> None:
    _, out = demo()
    usage = few.usage()
    saving, restoring = costs(out)
    # Besides, it asks whether the database answers, and cleans up.
    assert saving[0] + restoring[0] == usage.requests - 2
    assert saving[1] + restoring[1] == usage.commands - 2
    changes = (len(order.get("status_history", "1")) for order in read_orders(SHIPPED).values())
    assert saving[0] == saving[1] == 2 + sum(changes)


def test_the_token_is_no_argument_of_the_second_process(
    demo: Demo, few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def spy(args: Any, **options: Any) -> Any:
        started.append(args)
        return popen(args, **options)

    monkeypatch.setattr(subprocess, "Popen", spy)
    assert demo()[0] == 0
    assert len(started) == 1
    assert TOKEN not in " ".join(started[0])


def test_what_the_database_changes_is_named_and_the_status_is_1(
    demo: Demo, few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(few.url).open() as gate:

        def alter(body: Any) -> None:
            if names(body) == ["SET"]:
                body[2] = body[2].replace("Zoë", "Zoe").replace('"confirmed"', '"cancelled"')

        gate.alter = alter
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out = demo()
    assert status == 1
    assert "3 orders: 1 different\n" in out
    assert re.search("order 5866: saved .*'Zoë ', restored .*'Zoe '", out)
    assert keys(few) == []


def test_an_order_that_cannot_be_saved_is_named(
    demo: Demo,
    few: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (
            (400, '{"error": "ERR DB capacity quota exceeded"}')
            if names(body) in (["SET"], ["EVAL"]) and "pickup/7 *" in str(body)
            else None
        )
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out = demo()
    assert status == 1
    assert "order pickup/7 *: saved {" in out
    assert "Failed to save order pickup/7 * to Redis" in caplog.text
    assert keys(few) == []


def test_a_second_process_that_fails_is_no_success(
    demo: Demo, few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    status, out = demo()
    assert (status, "upstash-state: the second process failed\n" in out) == (1, True)
    assert keys(few) == []


def test_a_failed_restore_is_no_success(
    demo: Demo, few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (503, "") if "SCAN" in names(body) else None
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out = demo()
    assert status == 1
    assert "restored 0 orders\n" in out
    assert "order 5866: saved {" in out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"id": "1", "stored": "{}"}\n{"id": 2}\n', "line 2: it is not a JSON object"),
        ('{"id": "1", "stored": "{"}\n', "line 1: stored text cannot be read"),
        ("not JSON\n", "line 1: Expecting value"),
        ("7\n", "line 1: it is not a JSON object"),
        ('{"id": "1", "stored": "{}"}\n\udcff', "line 2: 'utf-8' codec"),
        (None, "No such file"),
    ],
)
def test_a_file_of_another_form_is_refused(
    demo: Demo, tmp_path: Path, text: str | None, complaint: str
) -> None:
    file = tmp_path / "orders.jsonl"
    if text is not None:
        file.write_text(text, errors="surrogateescape")
    status, out = demo(file, "local")
    assert status == 1
    assert complaint in out


@pytest.mark.parametrize("held", ["SET", "SCAN"])
def test_ctrl_c_cleans_up(few: LocalEndpoint, held: str) -> None:
    with Gate(few.url).open() as gate:
        gate.holds = lambda body: names(body) == [held] and len(gate.seen) > 5
        # Longer than the test waits: what is held does not end before.
        env = environment(gate.url, UPSTASH_STATE_TIMEOUT="600")
        with Terminal(env, "demo", "--endpoint", "env") as terminal:
            assert gate.holding.wait(SECONDS)
            assert keys(few)
            assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert "Removed     all keys upstash-state-demo-" in terminal.text
    assert keys(few) == []


def test_what_is_left_behind_expires_within_an_hour(few: LocalEndpoint) -> None:
    with Gate(few.url).open() as gate:
        demo_sets: list[Any] = gate.seen
        assert piped(environment(gate.url), "demo", "--endpoint", "env").status == 0
    sets = [body for body in demo_sets if body[0] == "SET"]
    assert sets
    assert {tuple(body[3:]) for body in sets} == {("EX", "3600")}


def test_without_credentials_it_says_which(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "", "")
    status, out = demo()
    assert status == 1
    assert "UPSTASH_REDIS_REST_URL" in out


def test_the_environment_is_as_before(demo: Demo, few: LocalEndpoint) -> None:
    import os

    before = dict(os.environ)
    demo(None, "local")
    demo()
    assert dict(os.environ) == before


MOMENT = datetime(2025, 12, 1, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("saved", "found", "difference"),
    [
        ({"a": 1}, {"a": True}, "saved {'a': 1}, restored {'a': True}"),
        ({"a": 1}, {"a": 1.0}, "saved {'a': 1}, restored {'a': 1.0}"),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, "saved {'a': [{'b': 'x'}]}, restored "),
        ({"a": 1, "b": [1]}, {"a": 1, "b": [1, 2]}, "saved 'b': [1]}, restored 'b': [1,"),
        ({"a": []}, {"a": {}}, "saved {'a': []}, restored {'a': {}}"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "saved 'b': 2}, restored 'c': 2}"),
        ({"a": "T"}, {"a": MOMENT}, "saved {'a': 'T'}, restored {'a': datetime.datetime(2025"),
        ({"a": MOMENT}, {"a": MOMENT.astimezone(timezone.utc)}, "saved {'a': datetime.datetime("),
    ],
)
def test_the_first_difference_of_an_order_is_named(
    saved: dict[str, Any], found: dict[str, Any], difference: str
) -> None:
    (named,) = differences({"1": saved}, {"1": found})
    assert named.startswith(f"order 1: {difference}")


def test_orders_that_are_missing_or_too_many_are_named() -> None:
    assert list(differences({"1": {}}, {"2": {}})) == [
        "order 1: saved {}, restored None",
        "order 2: saved None, restored {}",
    ]
