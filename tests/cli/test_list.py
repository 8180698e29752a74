"""`list`: order, choice, cost, and the same in a pipe, in a terminal and as JSON."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from wcwidth import wcswidth

from tests.cli.conftest import MANY, order
from tests.support.cli import (
    SECONDS,
    TTL,
    Environment,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
)
from upstash_state import serialize_order
from upstash_state.local import LocalEndpoint


def test_list_in_a_pipe_has_a_line_for_each_order_the_youngest_first(
    many: LocalEndpoint, tool: Tool, now: datetime
) -> None:
    status, out, err = tool("list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (status, err, len(rows)) == (0, "", MANY)
    assert all(len(row) == 6 for row in rows)
    order_id, age, ttl, size, state, name = rows[0]
    assert (order_id, state, name) == ("1", "new", "dishbee #1")
    since = (datetime.now(timezone.utc) - now).total_seconds()
    assert 59 <= int(age) <= 59 + since
    assert TTL - SECONDS < int(ttl) <= TTL
    created = now - timedelta(seconds=59)
    assert int(size) == len(serialize_order(order(1, created_at=created)).encode())
    dated = [int(row[1]) for row in rows[: -MANY // 50]]
    assert dated == sorted(dated)
    undated = rows[-MANY // 50 :]
    assert {row[1] for row in undated} == {""}
    assert [row[0] for row in undated] == sorted(row[0] for row in undated)


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ((), MANY),
        (("--columns", "id"), 0),
        (("--limit", "3"), 3),
        (("--limit", "3", "--columns", "id,age"), 0),
        (("--limit", "3", "--json"), 3),
        (("--search", "#4999", "--columns", "ttl"), 1),
        (("--limit", "3", "--sort", "ttl", "--columns", "id"), MANY),
    ],
)
def test_a_list_costs_a_command_for_each_ttl_shown_and_two_for_each_thousand(
    many: LocalEndpoint, tool: Tool, args: tuple[str, ...], asked: int
) -> None:
    tool("list", *args)
    usage = many.usage()
    assert asked < usage.commands <= asked + 2 * MANY // 1000 + 4
    assert usage.requests <= usage.commands - asked + asked // 500 + 3


def test_a_list_that_fits_the_terminal_is_shown_with_a_total(three: LocalEndpoint) -> None:
    env = environment(three.url, COLUMNS="80", LINES="24", PAGER="sed s/^/paged/")
    with Terminal(env, "list", "--limit", "2") as terminal:
        assert terminal.end() == 0
    lines = terminal.shown.splitlines()
    assert lines[0].split() == ["ID", "AGE", "EXPIRES", "IN", "BYTES", "STATUS", "NAME"]
    assert len(lines) == 4
    assert lines[1].startswith("a ")
    assert re.fullmatch("2 of 3 orders, [0-9]+ bytes", lines[3])


def test_a_list_that_does_not_fit_the_terminal_goes_to_the_pager(many: LocalEndpoint) -> None:
    env = environment(many.url, COLUMNS="80", LINES="24", PAGER="sed s/^/paged:/")
    with Terminal(env, "list") as terminal:
        assert terminal.end() == 0
    heading, *lines, _, total = terminal.shown.splitlines()
    assert heading.startswith("paged:ID ")
    assert len(lines) == MANY
    column = heading.index("STATUS")
    assert {line[column:].split()[0] for line in lines} == {"new"}
    assert re.fullmatch("5,000 orders, [0-9,]+ bytes", total)
    assert re.search("read [0-9,]+ orders", terminal.text)


def test_a_pager_that_is_left_early_does_not_cost_the_ttl_of_the_rest(many: LocalEndpoint) -> None:
    env = environment(many.url, COLUMNS="80", LINES="24", PAGER="head -n 3")
    with Terminal(env, "list") as terminal:
        assert terminal.end() == 0
    assert terminal.shown.startswith("ID ")
    assert "5,000 orders, " in terminal.shown
    assert many.usage().commands < MANY / 2


def test_list_as_json(many: LocalEndpoint, tool: Tool, now: datetime) -> None:
    rows = json.loads(tool("list", "--json").out)
    assert len(rows) == MANY
    assert set(rows[0]) == {"id", "created_at", "age", "ttl", "size", "status", "name"}
    assert datetime.fromisoformat(rows[0]["created_at"]) == now - timedelta(seconds=59)
    assert rows[-1]["created_at"] is rows[-1]["age"] is None


def test_an_order_that_expires_while_it_is_read_is_not_listed(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(few, "order:1", "{}")
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (200, '[{"result": -2}]') if names(body) == ["TTL"] else None
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        assert tool("list") == (0, "", "")


def test_ids_and_names_cannot_move_the_cursor(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:a\nb\t\x1b[2J", serialize_order({"name": "x\x1b]0;y\x07\x9b\x7f\u202e"}))
    shown = tool("list").out + tool("show", "a\nb\t\x1b[2J").out + tool("show", "\x1b").err
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert shown.startswith("a\\nb\\t\\u001b[2J\t")


def test_a_terminal_that_cannot_show_a_character_gets_its_escape(few: LocalEndpoint) -> None:
    put(few, "order:🍕", "{}")
    env: Environment = environment(few.url, PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    status, out, err = piped(env, "list")
    assert (status, err) == (0, "")
    assert out.startswith("\\U0001f355\t")


WIDE = "李小龙的订单 ❤️ 👩🏽‍🍳 e\u0301 Zoë 🍕 with a name that goes on"


@pytest.mark.parametrize("columns", [24, 40, 80])
def test_a_table_is_never_wider_than_the_terminal(few: LocalEndpoint, columns: int) -> None:
    for number, name in enumerate((WIDE, "x" * 200, "🍕" * 50, "\x1b" * 30, "short")):
        status = "in the oven, and then on its way to the customer"
        put(few, f"order:{number}", serialize_order({"name": name, "status": status}))
    put(few, "order:" + "k" * 100, "{}")
    with Terminal(environment(few.url, COLUMNS=str(columns)), "list") as terminal:
        assert terminal.end() == 0
    lines = terminal.shown.splitlines()
    assert len(lines) == 1 + 6 + 1
    assert max(map(wcswidth, lines)) <= columns
    assert sum("…" in line for line in lines[1:]) >= 5
    if columns == 80:
        assert "in the oven, and th…  " in lines[1]


def test_a_table_uses_the_width_there_is(few: LocalEndpoint) -> None:
    put(few, "order:1", serialize_order({"name": "🍕" * 10 + "end", "status": "x" * 16}))
    with Terminal(environment(few.url), "list") as terminal:
        assert terminal.end() == 0
    assert "🍕" * 10 + "end" in terminal.text
    assert "x" * 16 in terminal.text
    assert "…" not in terminal.text


def test_an_empty_list_says_which_keys_it_looked_for(few: LocalEndpoint, tool: Tool) -> None:
    assert tool("list") == (0, "", "0 orders with keys order:*\n")


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        ((), "abc"),
        (("--limit", "2"), "ab"),
        (("--status", "new"), "ac"),
        (("--status", "new", "--status", "done"), "abc"),
        (("--status", "ne"), ""),
        (("--search", "c"), "bc"),
        (("--search", '"b"'), "a"),
        (("--search", "CCC", "--status", "new"), ""),
        (("--sort", "ttl"), "cba"),
        (("--sort", "size", "--reverse", "--limit", "1"), "b"),
        (("--sort", "name"), "cab"),
        (("--sort", "id", "--reverse"), "cba"),
    ],
)
def test_orders_can_be_filtered_sorted_and_limited(
    three: LocalEndpoint, tool: Tool, args: tuple[str, ...], ids: str
) -> None:
    assert "".join(line[0] for line in tool("list", *args).out.splitlines()) == ids
    assert [row["id"] for row in json.loads(tool("list", "--json", *args).out)] == list(ids)


def test_columns_can_be_chosen(three: LocalEndpoint, tool: Tool) -> None:
    args = ("list", "--columns", "status,id", "--limit", "1")
    assert tool(*args).out == "new\ta\n"
    assert tool(*args, "--header").out == "status\tid\nnew\ta\n"
    assert json.loads(tool(*args, "--json").out) == [{"status": "new", "id": "a"}]
    with Terminal(environment(three.url), *args) as terminal:
        assert terminal.end() == 0
    assert terminal.shown.startswith("STATUS  ID\nnew     a\n")
