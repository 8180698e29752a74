"""The tool as a person uses it: list, show, count, delete; how it asks, ends and complains."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import redis

from tests.support.cli import (
    SECONDS,
    TOKEN,
    TTL,
    Environment,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
    use,
)
from upstash_state import serialize_order
from upstash_state.local import LocalEndpoint
from upstash_state.tool.terminal import duration, parse_duration, printable

# Enough for what is hours away from a limit.
NOW = datetime.now(timezone.utc)
MANY = 5000
# Those before are younger than two days, by an hour.
OLDER = 2880


def order(number: int, **more: object) -> dict[str, object]:
    return {"name": f"dishbee #{number}", "status": "new", "note": "ohne Zwiebeln 🧅", **more}


@pytest.fixture
def now() -> datetime:
    """When the orders were saved."""
    return datetime.now(timezone.utc)


@pytest.fixture
def many(redis_url: str, tcp: redis.Redis, now: datetime) -> Iterator[LocalEndpoint]:
    """5,000 orders, one every minute or a little less, every 50th without created_at."""
    with tcp.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            age = timedelta(seconds=number * (60 if number >= OLDER else 59))
            created = {} if number % 50 == 0 else {"created_at": now - age}
            pipeline.set(f"order:{number}", serialize_order(order(number, **created)), ex=TTL)
        pipeline.set("other:1", "not an order")
        pipeline.execute()
    with LocalEndpoint(redis_url=redis_url, token=TOKEN) as endpoint:
        yield endpoint


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEndpoint]:
    """An empty endpoint in memory, which the environment names."""
    with LocalEndpoint(token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        yield endpoint


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(capsys)


def test_list_in_a_pipe_has_a_line_for_each_order_the_youngest_first(
    many: LocalEndpoint, now: datetime
) -> None:
    status, out, err = piped(environment(many.url), "list")
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


def test_list_costs_a_command_for_each_order_and_two_for_each_thousand(
    many: LocalEndpoint,
) -> None:
    piped(environment(many.url), "list")
    usage = many.usage()
    assert MANY < usage.commands <= MANY + 2 * MANY // 1000 + 4
    assert usage.requests <= 2 * (MANY // 1000 + 2)


def test_list_in_a_terminal_has_aligned_columns_and_a_total(many: LocalEndpoint) -> None:
    with Terminal(environment(many.url), "list") as terminal:
        assert terminal.end() == 0
    lines = terminal.text.rpartition("\r")[2].splitlines()
    assert lines[0].split() == ["ID", "AGE", "EXPIRES", "IN", "BYTES", "STATUS", "NAME"]
    assert lines[-1].startswith("5,000 orders, ")
    assert len(lines) == MANY + 2
    column = lines[0].index("STATUS")
    assert {line[column:].split()[0] for line in lines[1:-1]} == {"new"}
    assert "read 5,000 orders" in terminal.text


def test_list_as_json(many: LocalEndpoint, now: datetime) -> None:
    rows = json.loads(piped(environment(many.url), "list", "--json").out)
    assert len(rows) == MANY
    assert set(rows[0]) == {"id", "created_at", "age", "ttl", "size", "status", "name"}
    assert datetime.fromisoformat(rows[0]["created_at"]) == now - timedelta(seconds=59)
    assert rows[-1]["created_at"] is rows[-1]["age"] is None


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("export", "-")])
def test_a_reader_that_has_seen_enough_ends_it_quietly(
    many: LocalEndpoint, command: tuple[str, ...]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "upstash_state", *command],
        env=environment(many.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 141


def test_count(many: LocalEndpoint) -> None:
    assert piped(environment(many.url), "count") == (0, "5000\n", "")
    assert json.loads(piped(environment(many.url), "count", "--json").out) == {"orders": MANY}


def test_delete_older_asks_and_a_no_deletes_nothing(many: LocalEndpoint, tcp: redis.Redis) -> None:
    with Terminal(environment(many.url), "delete", "--older-than", "2d") as terminal:
        asked = terminal.expect(r"\[y/N\] ")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert f"Delete 2,078 orders from {many.url}, keys order:*?" in asked
    assert "Nothing deleted." in terminal.text
    assert tcp.dbsize() == MANY + 1


def test_delete_older_keeps_what_is_younger_or_has_no_date(
    many: LocalEndpoint, tcp: redis.Redis
) -> None:
    with Terminal(environment(many.url), "delete", "--older-than", "2d") as terminal:
        terminal.expect(r"\[y/N\] ")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert "2,078 orders deleted, 2,822 younger kept, 100 without created_at kept" in terminal.text
    assert tcp.exists("order:0", "order:1", "order:2879", "order:4950", "other:1") == 5
    assert tcp.exists("order:2881", "order:4999") == 0


def test_delete_older_without_a_terminal_needs_yes(many: LocalEndpoint, tcp: redis.Redis) -> None:
    refused = piped(environment(many.url), "delete", "--older-than", "2d")
    assert refused.status == 2
    assert "add --yes" in refused.err
    assert many.usage().requests == 0
    done = piped(environment(many.url), "delete", "--older-than", "2d", "--yes", "--json")
    assert json.loads(done.out) == {"deleted": 2078, "younger": 2822, "without_created_at": 100}
    assert tcp.dbsize() == MANY + 1 - 2078


@pytest.mark.parametrize(
    ("created_at", "deleted"),
    [
        (NOW - timedelta(hours=13), 1),
        (NOW - timedelta(hours=11), 0),
        ((NOW - timedelta(hours=13)).astimezone(timezone(timedelta(hours=9))), 1),
        ((NOW - timedelta(hours=11)).astimezone(timezone(timedelta(hours=-9))), 0),
        ((NOW - timedelta(hours=13)).replace(tzinfo=None), 1),
        ((NOW - timedelta(hours=11)).replace(tzinfo=None), 0),
        (NOW + timedelta(days=1), 0),
        (datetime.min, 1),
        ("yesterday", 0),
        (0, 0),
        (None, 0),
    ],
)
def test_the_age_of_an_order(
    few: LocalEndpoint,
    tool: Tool,
    monkeypatch: pytest.MonkeyPatch,
    created_at: object,
    deleted: int,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    put(few, "order:1", serialize_order({"created_at": created_at}))
    status, out, _ = tool("delete", "--older-than", "12h", "--yes", "--json")
    assert (status, json.loads(out)["deleted"]) == (0, deleted)


def test_delete_by_id_says_what_was_not_there(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:a/b", "{}")
    put(few, "order:c", "{}")
    assert tool("delete", "a/b", "a/b", "x", "--yes").out == "1 order deleted; 1 not there\n"
    assert tool("count").out == "1\n"
    assert tool("delete", "--yes", "--json", "--", "c").out == '{"deleted": 1, "missing": 0}\n'


def test_delete_by_id_without_a_terminal_needs_yes(few: LocalEndpoint) -> None:
    put(few, "order:1", "{}")
    refused = piped(environment(few.url), "delete", "1", stdin="y\n")
    assert (refused.status, refused.out) == (2, "")
    assert piped(environment(few.url), "count").out == "1\n"


def test_delete_by_id_asks(few: LocalEndpoint) -> None:
    put(few, "order:-1", "{}")
    with Terminal(environment(few.url), "delete", "--", "-1") as terminal:
        terminal.expect(r"Delete -1 from .*\? \[y/N\] ")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert "1 order deleted" in terminal.text


def test_show(few: LocalEndpoint, tool: Tool, now: datetime) -> None:
    text = serialize_order(order(7, created_at=now - timedelta(hours=5, minutes=2)))
    put(few, "order:7", text, ttl=7200)
    status, out, err = tool("show", "7")
    head, _, body = out.partition("\n\n")
    assert (status, err) == (0, "")
    assert "(5 h 2 min ago)" in head
    assert "expires in  2 h" in head or "expires in  1 h 59 min" in head
    assert json.loads(body) == json.loads(text)
    assert "🧅" in body
    as_json = json.loads(tool("show", "7", "--json").out)
    assert as_json["order"] == json.loads(text)
    assert as_json["ttl"] in (7199, 7200)


def test_what_is_not_there_cannot_be_shown(few: LocalEndpoint, tool: Tool) -> None:
    assert tool("show", "7") == (1, "", "upstash-state: there is no order 7\n")


def test_an_order_that_expires_while_it_is_read_is_not_listed(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(few, "order:1", "{}")
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (200, '[{"result": -2}]') if names(body) == ["TTL"] else None
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        assert tool("list") == (0, "", "")


def test_what_is_no_order_is_listed_and_shown_as_it_is(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:7", '{"name": "cut off', ttl=None)
    assert tool("list").out.split("\t")[2:5] == ["-1", "17", "(unreadable)"]
    status, out, err = tool("show", "7")
    assert status == 1
    assert '{"name": "cut off' in out
    assert "no order" in err
    assert json.loads(tool("show", "7", "--json").out)["stored"] == '{"name": "cut off'


def test_ids_and_names_cannot_move_the_cursor(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:a\nb\t\x1b[2J", serialize_order({"name": "x\x1b]0;y\x07\x9b\x7f\u202e"}))
    shown = tool("list").out + tool("show", "a\nb\t\x1b[2J").out + tool("show", "\x1b").err
    assert all(character.isprintable() or character in "\n\t" for character in shown)
    assert shown.startswith("a\\nb\\t\\u001b[2J\t")


def test_the_apps_prefix_counts(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(few, "shop*:1", "{}")
    put(few, "shop2:1", "{}")
    monkeypatch.setenv("UPSTASH_STATE_PREFIX", "shop*:")
    assert tool("count").out == "1\n"
    assert tool("list").out.startswith("1\t")
    assert tool("delete", "1", "--yes").out == "1 order deleted\n"


def test_a_setting_that_cannot_be_used_is_named(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TTL", "a week")
    status, out, err = tool("count")
    assert (status, out) == (0, "0\n")
    assert err.startswith("upstash-state: UPSTASH_STATE_TTL is not a whole number")


def test_without_credentials_it_says_which_variables_to_set(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPSTASH_REDIS_REST_URL")
    status, out, err = tool("count")
    assert (status, out) == (1, "")
    assert "UPSTASH_REDIS_REST_URL is not set, UPSTASH_REDIS_REST_TOKEN is set" in err


def test_a_refusal_points_to_the_doctor(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "wrong")
    status, out, err = tool("count")
    assert (status, out) == (1, "")
    assert "WRONGPASS" in err
    assert "upstash-state doctor" in err


def test_what_is_logged_as_an_error_is_shown_and_makes_the_status_1(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate(few.url).open() as gate:
        put(few, "order:large", "{}")
        put(few, "order:small", "{}")
        gate.answer = lambda body: (
            (400, '{"error": "ERR max request size exceeded"}')
            if "order:large" in body and names(body) == ["MGET"]
            else None
        )
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out, err = tool("list")
    assert status == 1
    assert out.startswith("small\t")
    assert err.startswith("upstash-state: Failed to get order large from Redis: ERR max request")


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nonsense",),
        ("show",),
        ("delete",),
        ("delete", "1", "--older-than", "2d"),
        ("delete", "--older-than", "2 days"),
        ("delete", "--older-than", "-2d"),
        ("demo", "--endpoint", "elsewhere"),
        ("import",),
    ],
)
def test_usage_has_a_status_of_its_own(tool: Tool, args: tuple[str, ...]) -> None:
    status, out, err = tool(*args)
    assert (status, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    "args",
    [
        ("doctor",),
        ("list",),
        ("show", "1"),
        ("count",),
        ("delete", "1", "--yes"),
        ("delete", "--older-than", "1d", "--yes"),
        ("demo", "--endpoint", "env"),
    ],
)
def test_ctrl_c_ends_it_without_a_traceback(endpoint: LocalEndpoint, args: tuple[str, ...]) -> None:
    with Gate(endpoint.url).open() as gate:
        gate.holds = lambda body: True
        with Terminal(environment(gate.url), *args) as terminal:
            assert gate.holding.wait(SECONDS)
            terminal.type("\x03")
            assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert "upstash-state: interrupted" in terminal.text


def test_ctrl_c_at_the_question_deletes_nothing(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", "{}")
    with Terminal(environment(few.url), "delete", "1") as terminal:
        terminal.expect(r"\[y/N\] ")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert tool("count").out == "1\n"


def test_serve_says_how_to_use_it_and_ends_with_ctrl_c() -> None:
    env = environment("", "")
    with Terminal(env, "serve", "--port", "0", "--token", "abc") as terminal:
        shown = terminal.expect("Ctrl-C ends it.")
        url = shown.partition("export UPSTASH_REDIS_REST_URL=")[2].splitlines()[0]
        assert piped(environment(url, "abc"), "count").out == "0\n"
        terminal.type("\x03")
        assert terminal.end() == 0
    assert "Traceback" not in terminal.text


def test_a_terminal_that_cannot_show_a_character_gets_its_escape(few: LocalEndpoint) -> None:
    put(few, "order:🍕", "{}")
    env: Environment = environment(few.url, PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    status, out, err = piped(env, "list")
    assert (status, err) == (0, "")
    assert out.startswith("\\U0001f355\t")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (3605, "1 h"),
        (3 * 86_400 + 7200, "3 d 2 h"),
        (3 * 86_400 + 60, "3 d"),
        (-90, "-1 min 30 s"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: int, shown: str) -> None:
    assert duration(seconds) == shown


def test_ages_are_read_in_each_unit() -> None:
    assert [parse_duration(f"2{unit}").total_seconds() for unit in "smhdw"] == [
        2,
        120,
        7200,
        172_800,
        1_209_600,
    ]


def test_printable_escapes_as_json_does() -> None:
    assert printable("Zoë 🍕 \n\x7f\x9b\ud800") == "Zoë 🍕 \\n\\u007f\\u009b\\ud800"
