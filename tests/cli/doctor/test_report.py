"""How the doctor reports, and that it leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis

from tests.support.cli import (
    SECONDS,
    TOKEN,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
)
from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint

from .conftest import CHECKS, PASSWORD, URL_TOKEN, Doctor
from .test_wrong_setups import refusing


def checks(out: str) -> list[str]:
    return [line[9:20].strip() for line in out.partition("\n\n")[0].splitlines()]


def test_all_is_well(real_endpoint: LocalEndpoint, tcp: redis.Redis) -> None:
    tcp.set("order:1", "{}", ex=100)
    status, out, err = piped(environment(real_endpoint.url, real_endpoint.token), "doctor")
    assert (status, err) == (0, "")
    assert checks(out) == CHECKS
    *lines, _, summary = out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert summary == "All is well."
    assert "1 order with keys order:*" in out
    assert re.search(r"[0-9.]+ MB used", out)
    assert tcp.keys() == [b"order:1"]
    assert real_endpoint.usage().commands <= 22


def test_in_a_terminal_it_says_the_same(few: LocalEndpoint) -> None:
    with Terminal(environment(few.url), "doctor") as terminal:
        assert terminal.end() == 0
    assert checks(re.sub(r"\x1b\[\d*m", "", terminal.text)) == CHECKS


def test_as_json(few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(tool("doctor", "--json").out)
    assert report["ok"] is True
    assert [check["check"] for check in report["checks"]] == CHECKS
    monkeypatch.setenv(URL_TOKEN, PASSWORD)
    wrong = tool("doctor", "--json")
    last = json.loads(wrong.out)["checks"][-1]
    assert wrong.status == 1
    assert json.loads(wrong.out)["ok"] is False
    assert (last["check"], last["state"]) == ("token", "wrong")
    assert last["found"].startswith("WRONGPASS")
    assert "copy it from" in last["advice"]


def test_in_a_terminal_states_have_colours_and_advice_wraps_under_itself(
    few: LocalEndpoint, tmp_path: Path
) -> None:
    env = environment(few.url, PASSWORD, COLUMNS="80", UPSTASH_STATE_TTL="a week")
    with Terminal(env, "doctor") as terminal:
        assert terminal.end() == 1
    assert "\x1b[32mok      \x1b[0m variables" in terminal.text
    assert "\x1b[33mwarning \x1b[0m settings" in terminal.text
    assert "\x1b[31mwrong   \x1b[0m token" in terminal.text
    lines = re.sub(r"\x1b\[\d*m", "", terminal.text).splitlines()
    assert max(map(len, lines)) <= 80
    arrow = next(i for i, line in enumerate(lines) if "-> the token must be" in line)
    assert lines[arrow].startswith(" " * 21 + "-> the token")
    assert re.match(r" {24}\S", lines[arrow + 1])


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_switched_off(few: LocalEndpoint, plain: dict[str, str]) -> None:
    with Terminal(environment(few.url, **plain), "doctor") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.text


def test_a_probe_that_could_not_be_saved_does_not_stay_pending(gate: Gate) -> None:
    refuse = refusing("", "ERR DB capacity quota exceeded. Limit: 268435456")
    gate.answer = lambda body: refuse(body) if ["SET"] in map(names, gate.seen) else None
    status, _, err = piped(environment(gate.url), "doctor")
    assert (status, err) == (1, "")
    saved = [names(body) for body in gate.seen].index(["SET"])
    # The probe is removed in any case. Nothing more comes, also not at exit.
    assert [names(body) for body in gate.seen[saved:]] == [["SET"], ["DEL"]]


def test_ctrl_c_leaves_no_probe_behind(few: LocalEndpoint, gate: Gate) -> None:
    gate.holds = lambda body: names(body) == ["TTL"]
    with Terminal(environment(gate.url), "doctor") as terminal:
        assert gate.holding.wait(SECONDS)
        assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    with UpstashRedis(few.url, few.token) as client:
        assert client.keys() == []


def test_an_error_text_of_the_server_does_not_show_the_token(gate: Gate, doctor: Doctor) -> None:
    gate.answer = refusing("", f"ERR what is {TOKEN}?")
    doctor.finds("token", r"ERR what is \*\*\*", "troubleshooting")
