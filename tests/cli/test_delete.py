"""`delete`: it names, asks, and deletes what it named."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
import redis

from tests.cli.conftest import MANY
from tests.support.cli import (
    Terminal,
    Tool,
    environment,
    put,
)
from upstash_state import UpstashRedis, serialize_order
from upstash_state.local import LocalEndpoint

# Enough for what is hours away from a limit.
NOW = datetime.now(timezone.utc)


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


def test_delete_older_without_a_terminal_needs_yes(
    many: LocalEndpoint, tool: Tool, tcp: redis.Redis
) -> None:
    refused = tool("delete", "--older-than", "2d")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.count("\n") == 1
    assert "pass --yes. Try 'upstash-state delete --help'" in refused.err
    assert many.usage().requests == 0
    done = tool("delete", "--older-than", "2d", "--yes", "--json")
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


def test_delete_by_id_without_a_terminal_needs_yes(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", "{}")
    refused = tool("delete", "1", stdin="y\n")
    assert (refused.status, refused.out) == (2, "")
    assert tool("count").out == "1\n"


def test_delete_by_id_asks(few: LocalEndpoint) -> None:
    put(few, "order:-1", "{}")
    with Terminal(environment(few.url), "delete", "--", "-1") as terminal:
        terminal.expect(r"-1 .*\nDelete 1 order from .*\? \[y/N\] ")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert "1 order deleted" in terminal.text


def test_ctrl_c_at_the_question_deletes_nothing(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", "{}")
    with Terminal(environment(few.url), "delete", "1") as terminal:
        terminal.expect(r"\[y/N\] ")
        assert terminal.interrupt(again=3.0) == 130
    assert "Traceback" not in terminal.text
    assert tool("count").out == "1\n"


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


@pytest.mark.parametrize("by", [("--older-than", "12h"), ("old", "x")])
def test_a_dry_run_names_and_deletes_nothing(
    few: LocalEndpoint, tool: Tool, by: tuple[str, ...]
) -> None:
    put(few, "order:old", serialize_order({"created_at": NOW - timedelta(hours=13)}))
    put(few, "order:new", serialize_order({"created_at": NOW - timedelta(hours=11)}))
    status, out, err = tool("delete", *by, "--dry-run")
    assert (status, out) == (0, "1 order would be deleted\n")
    assert re.search(r"^old +13 h ", err, re.M)
    assert ("not there: x\n" in err) == ("x" in by)
    _, out, named = tool("delete", *by, "--dry-run", "--yes", "--json")
    assert json.loads(out) == {"would_delete": ["old"]}
    assert named == err
    assert tool("count").out == "2\n"


def test_delete_older_deletes_what_it_has_named(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:old", serialize_order({"created_at": NOW - timedelta(hours=13)}))
    with Terminal(environment(few.url), "delete", "--older-than", "12h") as terminal:
        terminal.expect(r"\[y/N\] ")
        put(few, "order:late", serialize_order({"created_at": NOW - timedelta(hours=13)}))
        terminal.type("y\n")
        assert terminal.end() == 0
    assert tool("list", "--columns", "id").out == "late\n"
