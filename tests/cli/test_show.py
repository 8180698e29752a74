"""`show` and `count`."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

from tests.cli.conftest import MANY, order
from tests.support.cli import Tool, put
from upstash_state import UpstashRedis, serialize_order
from upstash_state.local import LocalEndpoint


def test_count(many: LocalEndpoint, tool: Tool) -> None:
    assert tool("count") == (0, "5000\n", "")
    assert json.loads(tool("count", "--json").out) == {"orders": MANY}


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


def test_an_order_that_does_not_exist_is_named(few: LocalEndpoint, tool: Tool) -> None:
    assert tool("show", "7") == (1, "", "upstash-state: there is no order 7\n")


def test_ids_come_from_standard_input(three: LocalEndpoint, tool: Tool) -> None:
    ids = tool("list", "--columns", "id", "--status", "new").out
    shown = tool("show", "-", "--json", stdin=ids)
    assert [order["id"] for order in json.loads(shown.out)] == ["a", "c"]
    windows = b"\xef\xbb\xbf" + ids.replace("\n", "\r\n").encode()
    deleted = tool("delete", "-", "x", "a", "--yes", "--json", stdin=windows)
    assert json.loads(deleted.out) == {"deleted": 2, "missing": ["x"]}
    assert tool("list", "--columns", "id").out == "b\n"
    assert tool("show", "-", "--json", stdin="").out == "[]\n"
    assert tool("show", "-", stdin=b"\xff\n").status == 1


def test_several_orders_are_shown_one_after_the_other(three: LocalEndpoint, tool: Tool) -> None:
    status, out, err = tool("show", "a", "missing", "c")
    assert status == 1
    assert re.findall(r"^id +(\w+)$", out, re.M) == ["a", "c"]
    assert err == "upstash-state: there is no order missing\n"


def test_a_key_of_another_type_is_named_as_such(few: LocalEndpoint, tool: Tool) -> None:
    with UpstashRedis(few.url, few.token) as client:
        client.execute_command("RPUSH", "order:1", "x")
    put(few, "order:2", "{}")
    status, out, err = tool("show", "1", "2", "--json")
    assert status == 1
    assert err.startswith("upstash-state: order 1: its key cannot be read as an order: WRONGTYPE")
    assert [order["id"] for order in json.loads(out)] == ["2"]
