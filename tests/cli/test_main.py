"""The tool as a person uses it: list, show, count, delete; how it asks, ends and complains."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import redis
from wcwidth import wcswidth

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
)
from tests.support.paths import ROOT
from upstash_state import UpstashRedis, __version__, serialize_order
from upstash_state.cli import browse
from upstash_state.cli import main as cli
from upstash_state.cli.durations import duration, seconds
from upstash_state.cli.terminal import printable
from upstash_state.local import LocalEndpoint

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
    lines = terminal.text.rpartition("\x1b[K")[2].splitlines()
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
    assert terminal.text.endswith("2,078 orders deleted\n")
    assert tcp.exists("order:0", "order:1", "order:2879", "order:4950", "other:1") == 5
    assert tcp.exists("order:2881", "order:4999") == 0


def test_delete_older_without_a_terminal_needs_yes(many: LocalEndpoint, tcp: redis.Redis) -> None:
    refused = piped(environment(many.url), "delete", "--older-than", "2d")
    assert refused.status == 2
    assert refused.err.startswith("usage: upstash-state delete")
    assert "pass --yes" in refused.err
    assert many.usage().requests == 0
    done = piped(environment(many.url), "delete", "--older-than", "2d", "--yes", "--json")
    assert json.loads(done.out) == {"deleted": 2078, "missing": []}
    assert tcp.dbsize() == MANY + 1 - 2078


@pytest.mark.parametrize(
    ("created_at", "deleted"),
    [
        (NOW - timedelta(hours=13), 1),
        (NOW - timedelta(hours=11), 0),
        ((NOW - timedelta(hours=13)).astimezone(timezone(timedelta(hours=9))), 1),
        ((NOW - timedelta(hours=11)).astimezone(timezone(timedelta(hours=-9))), 0),
        (datetime.now() - timedelta(hours=13), 1),
        (datetime.now() - timedelta(hours=11), 0),
        (NOW + timedelta(days=1), 0),
        (datetime.min, 1),
        (datetime.max, 0),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), 1),
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
    put(few, "order:1", serialize_order({"created_at": created_at}))
    status, out, _ = tool("delete", "--older-than", "12h", "--yes", "--json")
    assert (status, json.loads(out)["deleted"]) == (0, deleted)


def test_delete_by_id_says_what_was_not_there(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:a/b", "{}")
    put(few, "order:c", "{}")
    assert tool("delete", "a/b", "a/b", "x", "--yes") == (0, "1 order deleted\n", "not there: x\n")
    assert tool("count").out == "1\n"
    assert tool("delete", "--yes", "--json", "--", "c").out == '{"deleted": 1, "missing": []}\n'


def test_delete_by_id_without_a_terminal_needs_yes(few: LocalEndpoint) -> None:
    put(few, "order:1", "{}")
    refused = piped(environment(few.url), "delete", "1", stdin="y\n")
    assert (refused.status, refused.out) == (2, "")
    assert piped(environment(few.url), "count").out == "1\n"


def test_delete_by_id_asks(few: LocalEndpoint) -> None:
    put(few, "order:-1", "{}")
    with Terminal(environment(few.url), "delete", "--", "-1") as terminal:
        terminal.expect(r"-1 .*\nDelete 1 order from .*\? \[y/N\] ")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert "1 order deleted" in terminal.text


def test_show(few: LocalEndpoint, tool: Tool, now: datetime) -> None:
    text = serialize_order(order(7, created_at=now - timedelta(hours=5, minutes=2)))
    put(few, "order:7", text, ttl=7200)
    status, out, err = tool("show", "7")
    head, _, body = out.partition("\n\n")
    assert (status, err) == (0, "")
    assert re.search(r"\(5 h [2-9] min ago\)", head)
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
    assert "not an order in JSON" in err
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
            assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert "upstash-state: interrupted" in terminal.text


def test_ctrl_c_at_the_question_deletes_nothing(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", "{}")
    with Terminal(environment(few.url), "delete", "1") as terminal:
        terminal.expect(r"\[y/N\] ")
        assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert tool("count").out == "1\n"


def test_ctrl_c_while_it_is_being_imported_ends_it_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name == 'upstash_state.cli.listing': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from upstash_state.cli.main import main; sys.exit(main(['count']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment("", ""), capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (130, b"upstash-state: interrupted\n")


def closed(env: Environment, stream: str, *args: str) -> tuple[int, str, str]:
    """Run the tool as a shell does for `2>&-`."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}&-', "sh", sys.executable, "-m", "upstash_state", *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("show", "-"), 0, ""),
        (("import", "-"), 0, "0 orders: nothing to do"),
        (("delete", "1"), 2, "stdin is not a terminal, so nobody can confirm: pass --yes"),
    ],
)
def test_a_closed_standard_input_is_an_empty_one(
    few: LocalEndpoint, args: tuple[str, ...], status: int, said: str
) -> None:
    ended, out, err = closed(environment(few.url), "<", *args)
    assert ended == status, err
    assert said in out + err
    assert "Traceback" not in err


def test_a_closed_standard_error_stops_nothing(few: LocalEndpoint, tmp_path: Path) -> None:
    put(few, "order:1", "{}")
    file = str(tmp_path / "orders.jsonl")
    env = environment(few.url)
    assert closed(env, "2>", "export", file)[:2] == (0, f"1 order exported to {file}\n")
    assert closed(env, "2>", "delete", "1", "2", "--yes")[:2] == (0, "1 order deleted\n")
    assert closed(env, "2>", "import", file)[:2] == (0, "1 order: 1 written\n")
    assert closed(env, "2>", "list", "--columns", "id")[:2] == (0, "1\n")


@pytest.mark.parametrize(
    "args", [("doctor",), ("list",), ("export", "-"), ("delete", "1", "--yes")]
)
def test_with_a_closed_standard_output_nothing_is_done(
    few: LocalEndpoint, args: tuple[str, ...]
) -> None:
    put(few, "order:1", "{}")
    said = "upstash-state: standard output is closed\n"
    assert closed(environment(few.url), ">", *args) == (1, "", said)
    assert piped(environment(few.url), "count").out == "1\n"


def test_arguments_are_utf_8_whatever_the_locale(few: LocalEndpoint) -> None:
    put(few, "order:Zoë", serialize_order({"status": "🍕"}))
    env = environment(few.url, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert piped(env, "show", "Zoë").out.startswith("id          Zo\\xeb\n")
    assert piped(env, "list", "--columns", "id", "--status", "🍕").out == "Zo\\xeb\n"
    assert piped(env, "delete", "Zoë", "--yes").out == "1 order deleted\n"


def test_an_empty_id_is_one_like_others(few: LocalEndpoint, tool: Tool) -> None:
    """What a variable that is not set leaves in a script, too."""
    assert tool("show", "") == (1, "", "upstash-state: there is no order \n")
    put(few, "order:", "{}")
    assert tool("show", "").status == 0
    assert tool("delete", "", "--yes").out == "1 order deleted\n"


def test_an_age_that_no_calendar_holds_is_refused(few: LocalEndpoint, tool: Tool) -> None:
    assert tool("delete", "--older-than", "9999w", "--yes").status == 0
    status, _, err = tool("delete", "--older-than", "999999w", "--yes")
    assert status == 2
    assert "'999999w' is not a time such as 150ms, 45s, 12h or 2d" in err


def test_serve_says_how_to_use_it_and_ends_with_ctrl_c() -> None:
    env = environment("", "")
    with Terminal(env, "serve", "--port", "0", "--token", "abc") as terminal:
        shown = terminal.expect("Ctrl-C ends it.")
        url = shown.partition("export UPSTASH_REDIS_REST_URL=")[2].splitlines()[0]
        assert piped(environment(url, "abc"), "count").out == "0\n"
        assert terminal.interrupt() == 0
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
    assert [seconds(f"2{unit}") for unit in ("ms", "s", "m", "h", "d", "w")] == [
        0.002,
        2,
        120,
        7200,
        172_800,
        1_209_600,
    ]


def test_printable_escapes_as_json_does() -> None:
    assert printable("Zoë 🍕 \n\x7f\x9b\ud800") == "Zoë 🍕 \\n\\u007f\\u009b\\ud800"


def test_alone_it_shows_help(tool: Tool) -> None:
    status, out, err = tool()
    assert (status, err) == (0, "")
    assert tool("--help") == (0, out, "")
    for command in COMMANDS:
        assert re.search(rf"^    {command} +[A-Z]", out, re.M)
    assert "examples:\n" in out


COMMANDS = ["doctor", "list", "show", "count", "delete", "export", "import", "demo", "serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_a_terminal_and_has_examples(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = tool(command, "--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert f"  upstash-state {command}" in out.partition("examples:")[2] or command in (
        "doctor",
        "count",
    )


def test_version(tool: Tool) -> None:
    assert tool("--version") == (0, f"upstash-state {__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "usage", "meant"),
    [
        (("lst",), "upstash-state [-h]", "did you mean list?"),
        (("exprot", "f"), "upstash-state [-h]", "did you mean export?"),
        (("list", "--jsn"), "upstash-state list [-h]", "did you mean --json?"),
        (("delete", "--older-then=2d"), "upstash-state delete [-h]", "did you mean --older-than?"),
        (("list", "--sort", "nam"), "upstash-state list [-h]", "did you mean name?"),
        (("show", "1", "--zzz"), "upstash-state show [-h]", "unrecognized arguments: --zzz"),
        (("delete",), "upstash-state delete [-h]", "give IDs or --older-than, one of the two"),
        (("list", "--watch"), "upstash-state list [-h]", "--watch needs a terminal"),
        (("list", "--limit", "0"), "upstash-state list [-h]", "a number from 1"),
        (("list", "--columns", "id,nam"), "upstash-state list [-h]", "'nam' is not a column: id, "),
    ],
)
def test_usage_is_that_of_the_command_and_slips_are_named(
    tool: Tool, args: tuple[str, ...], usage: str, meant: str
) -> None:
    status, out, err = tool(*args)
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: {usage}")
    # Python says it in its own words from some version on.
    assert meant in err or "maybe you meant" in err
    assert err.count("mean") <= 1


def test_bash_completes_commands_and_options() -> None:
    script = """
        eval "$(register-python-argcomplete upstash-state)"
        complete() { COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
            read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            _python_argcomplete upstash-state; echo "${COMPREPLY[@]}"; }
        complete "upstash-state ex"
        complete "upstash-state list --st"
    """
    env = environment("", "")
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout.split() == ["export", "--status"], done.stderr


def test_it_works_without_the_extra(few: LocalEndpoint) -> None:
    code = (
        "import sys; sys.modules['argcomplete'] = None\n"
        "from upstash_state.cli.main import main; sys.exit(main(['count']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(few.url), capture_output=True, timeout=SECONDS
    )
    assert (done.returncode, done.stdout) == (0, b"0\n")


WIDE = "李小龙的订单 ❤️ 👩🏽‍🍳 e\u0301 Zoë 🍕 with a name that goes on"


@pytest.mark.parametrize("columns", [24, 40, 80])
def test_a_table_is_never_wider_than_the_terminal(few: LocalEndpoint, columns: int) -> None:
    for number, name in enumerate((WIDE, "x" * 200, "🍕" * 50, "\x1b" * 30, "short")):
        status = "in the oven, and then on its way to the customer"
        put(few, f"order:{number}", serialize_order({"name": name, "status": status}))
    put(few, "order:" + "k" * 100, "{}")
    with Terminal(environment(few.url, COLUMNS=str(columns)), "list") as terminal:
        assert terminal.end() == 0
    lines = terminal.text.rpartition("\x1b[K")[2].splitlines()
    assert len(lines) == 1 + 6 + 1
    assert max(map(wcswidth, lines)) <= columns
    assert sum("…" in line for line in lines[1:]) >= 5
    if columns == 80:
        assert "in the oven, an…  " in lines[1]


def test_a_table_uses_the_width_there_is(few: LocalEndpoint) -> None:
    put(few, "order:1", serialize_order({"name": "🍕" * 10 + "end", "status": "x" * 16}))
    with Terminal(environment(few.url), "list") as terminal:
        assert terminal.end() == 0
    assert "🍕" * 10 + "end" in terminal.text
    assert "x" * 16 in terminal.text
    assert "…" not in terminal.text


@pytest.fixture
def three(few: LocalEndpoint) -> LocalEndpoint:
    """An endpoint with three orders."""
    put(few, "order:a", serialize_order({"name": "B", "status": "new"}), ttl=300)
    put(few, "order:b", serialize_order({"name": "C" * 50, "status": "done"}), ttl=200)
    put(few, "order:c", serialize_order({"name": "A", "status": "new"}), ttl=100)
    return few


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        ((), "abc"),
        (("--limit", "2"), "ab"),
        (("--status", "new"), "ac"),
        (("--status", "new", "--status", "done"), "abc"),
        (("--status", "ne"), ""),
        (("--sort", "ttl"), "cba"),
        (("--sort", "size", "--reverse", "--limit", "1"), "b"),
        (("--sort", "name"), "cab"),
        (("--sort", "id", "--reverse"), "cba"),
    ],
)
def test_what_is_listed_can_be_chosen(
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
    assert terminal.text.rpartition("\x1b[K")[2].startswith("STATUS  ID\nnew     a\n")


def test_watch_draws_anew_and_shows_what_has_changed(three: LocalEndpoint) -> None:
    env = environment(three.url, COLUMNS="100", LINES="24")
    with Terminal(env, "list", "--watch", "1", "--status", "new", "--status", "late") as terminal:
        terminal.expect(r"  2 orders, \d+ bytes")
        assert "new:" not in terminal.text
        put(three, "order:a", serialize_order({"name": "B", "status": "late"}), ttl=300)
        put(three, "order:d", serialize_order({"name": "D", "status": "new"}), ttl=300)
        with UpstashRedis(three.url, three.token) as client:
            client.delete("order:c")
        # They may be seen at different looks.
        terminal.expect(r"new: d")
        terminal.expect(r"changed: a")
        terminal.expect(r"gone: c")
        assert "\x1b[32m+ d" in terminal.text
        assert "\x1b[33m* a" in terminal.text
        # Saved again with the same text.
        put(three, "order:d", serialize_order({"name": "D", "status": "new"}), ttl=400)
        terminal.expect(r"changed: d")
        assert terminal.interrupt() == 0
    assert "Traceback" not in terminal.text
    for screen in terminal.text.split("\x1b[H\x1b[J")[1:]:
        assert screen.count("\n") < 24


def test_watch_goes_on_after_an_outage(few: LocalEndpoint) -> None:
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (503, "") if len(gate.seen) < 20 else None
        env = environment(gate.url, UPSTASH_STATE_TIMEOUT="2")
        with Terminal(env, "list", "--watch", "1") as terminal:
            terminal.expect("  not read: ")
            gate.answer = lambda body: None
            terminal.expect("  0 orders, 0 bytes")
            assert terminal.interrupt() == 0


@pytest.mark.slow
def test_watch_fits_a_terminal_that_gets_narrower_also_in_an_outage(few: LocalEndpoint) -> None:
    put(few, "order:" + "k" * 60, "{}")
    with Gate(few.url).open() as gate:
        env = environment(gate.url, COLUMNS="", UPSTASH_STATE_TIMEOUT="0.5")
        with Terminal(env, "list", "--watch", "1") as terminal:
            terminal.resize(100, 24)
            terminal.expect("k{60}")
            gate.answer = lambda body: (503, "")
            terminal.resize(40, 10)
            # What was drawn between the two is of either width.
            terminal.expect("(?s)not read: .*not read: .*not read: ")
            assert terminal.interrupt() == 0
    screen = terminal.text.split("\x1b[H\x1b[J")[-2]
    assert "…" in screen.splitlines()[1]
    assert max(map(len, re.split(r"\n|\r", screen))) <= 40


@pytest.mark.slow
def test_watch_draws_no_log_lines_over_the_table(few: LocalEndpoint) -> None:
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (503, "")
        env = environment(gate.url, UPSTASH_STATE_TIMEOUT="0.2")
        with Terminal(env, "list", "--watch", "1") as terminal:
            # The third failure opens the circuit, which is logged as an error.
            terminal.expect("kept failing")
            assert terminal.interrupt() == 0
    for screen in terminal.text.split("\x1b[H\x1b[J"):
        assert screen.count("\n") <= 3


def test_watch_shows_no_more_than_the_terminal_has_lines(few: LocalEndpoint) -> None:
    for number in range(30):
        put(few, f"order:{number}", "{}")
    with Terminal(environment(few.url, LINES="10"), "list", "--watch") as terminal:
        terminal.expect("  30 orders, 60 bytes")
        assert terminal.interrupt() == 0
    assert terminal.text.rpartition("\x1b[J")[2].count("\n") == 10


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_watch_needs_a_terminal(three: LocalEndpoint, tool: Tool, more: tuple[str, ...]) -> None:
    status, out, err = tool("list", "--watch", *more)
    assert (status, out) == (2, "")
    assert "--watch needs a terminal" in err


def test_ids_come_from_standard_input(three: LocalEndpoint) -> None:
    env = environment(three.url)
    ids = piped(env, "list", "--columns", "id", "--status", "new").out
    shown = piped(env, "show", "-", "--json", stdin=ids)
    assert [order["id"] for order in json.loads(shown.out)] == ["a", "c"]
    windows = b"\xef\xbb\xbf" + ids.replace("\n", "\r\n").encode()
    deleted = piped(env, "delete", "-", "x", "a", "--yes", "--json", stdin=windows)
    assert json.loads(deleted.out) == {"deleted": 2, "missing": ["x"]}
    assert piped(env, "list", "--columns", "id").out == "b\n"
    assert piped(env, "show", "-", "--json", stdin="").out == "[]\n"
    assert piped(env, "show", "-", stdin=b"\xff\n").status == 1


def test_several_orders_are_shown_one_after_the_other(three: LocalEndpoint, tool: Tool) -> None:
    status, out, err = tool("show", "a", "missing", "c")
    assert status == 1
    assert re.findall(r"^id +(\w+)$", out, re.M) == ["a", "c"]
    assert err == "upstash-state: there is no order missing\n"


def test_delete_names_what_it_is_going_to_delete_and_what_is_not_there(
    three: LocalEndpoint,
) -> None:
    with UpstashRedis(three.url, three.token) as client:
        client.execute_command("RPUSH", "order:list", "x")
    with Terminal(environment(three.url), "delete", "a", "x", "list", "y") as terminal:
        asked = terminal.expect(r"\[y/N\] ")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert asked.splitlines()[0] == "not there: x, y"
    assert re.search(r"^a .* new .* B$", asked, re.M)
    assert re.search(r"^list .*\(not an order\)$", asked, re.M)
    assert "Delete 2 orders from " in asked
    assert terminal.text.endswith("\n2 orders deleted\n")


def test_delete_of_what_is_not_there_does_not_ask(few: LocalEndpoint) -> None:
    with Terminal(environment(few.url), "delete", *map(str, range(12))) as terminal:
        assert terminal.end() == 0
    assert terminal.text == (
        "not there: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more\n0 orders deleted\n"
    )


def test_a_key_of_another_type_is_named_as_such(few: LocalEndpoint, tool: Tool) -> None:
    with UpstashRedis(few.url, few.token) as client:
        client.execute_command("RPUSH", "order:1", "x")
    put(few, "order:2", "{}")
    status, out, err = tool("show", "1", "2", "--json")
    assert status == 1
    assert err.startswith("upstash-state: order 1: its key cannot be read as an order: WRONGTYPE")
    assert [order["id"] for order in json.loads(out)] == ["2"]


def test_json_is_strict(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", '{"name": NaN, "a": [-Infinity, 1e999, 1.5, 3], "status": 7}')

    def refuse(name: str) -> None:
        raise AssertionError(name)

    shown = json.loads(tool("show", "1", "--json").out, parse_constant=refuse)
    assert shown["order"] == {"name": "NaN", "a": ["-Infinity", "1e999", 1.5, 3], "status": 7}
    listed = json.loads(tool("list", "--json").out, parse_constant=refuse)
    assert (listed[0]["name"], listed[0]["status"]) == ("nan", "7")


def test_the_fields_of_json_are_those_of_the_readme(three: LocalEndpoint, tool: Tool) -> None:
    text = (ROOT / "upstash_state/cli/README.md").read_text(encoding="utf-8")
    fields = {
        command: re.findall(r"`([a-z_]+)`", shown)
        for command, shown in re.findall(r"^\| `(\w+) --json` \| (.*) \|$", text, re.M)
    }
    assert list(json.loads(tool("list", "--json").out)[0]) == fields["list"]
    shown = json.loads(tool("show", "a", "--json").out)
    assert list(shown) == [*fields["list"], fields["show"][0]]
    put(three, "order:broken", "{")
    assert set(json.loads(tool("show", "broken", "--json").out)) - set(shown) == {"stored"}
    assert list(json.loads(tool("count", "--json").out)) == fields["count"]
    assert list(json.loads(tool("delete", "x", "--yes", "--json").out)) == fields["delete"]
    assert (
        list(json.loads(tool("delete", "--older-than", "1d", "--yes", "--json").out))
        == (fields["delete"])
    )
    report = json.loads(tool("doctor", "--json").out)
    states = {"warning", "wrong"}
    named = [field for field in dict.fromkeys(fields["doctor"]) if field not in states]
    assert [*report, *report["checks"][0]] == named


def test_the_fields_of_json_of_files_are_those_of_the_readme(
    three: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    text = (ROOT / "upstash_state/cli/README.md").read_text(encoding="utf-8")
    for command in ("export", "import"):
        (shown,) = re.findall(rf"^\| `{command} --json` \| (.*) \|$", text, re.M)
        out = tool(command, str(tmp_path / "orders"), "--json").out
        assert list(json.loads(out)) == re.findall(r"`([a-z_]+)`", shown)


def test_a_closed_pipe_on_windows_is_an_invalid_argument(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Windows raises, raised here."""

    def closed(*args: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(browse, "opened", closed)
    assert tool("count").status == 1
    with monkeypatch.context() as patch:
        patch.setattr(cli, "WINDOWS", True)
        patch.setattr(os, "dup2", lambda *args: None)
        assert tool("count") == (141, "", "")


def test_ids_go_through_a_pipe_on_windows(few: LocalEndpoint) -> None:
    put(few, "order:Zoë", "{}")
    code = (
        "import os, sys; from upstash_state.cli import main as cli\n"
        "cli.WINDOWS, os.system = True, lambda command: 0\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    env = environment(few.url, PYTHONUTF8="0", PYTHONIOENCODING="cp1252")
    command = [sys.executable, "-c", code]
    listed = subprocess.run(
        [*command, "list", "--columns", "id"], env=env, capture_output=True, timeout=SECONDS
    )
    assert listed.stdout == "Zoë\n".encode()
    shown = subprocess.run(
        [*command, "show", "-"], env=env, input=listed.stdout, capture_output=True, timeout=SECONDS
    )
    assert shown.stdout.decode().startswith("id          Zoë\n")
