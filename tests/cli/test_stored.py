"""Orders as Redis stores them, in each command that shows them."""

from __future__ import annotations

import json

from tests.support.cli import Tool, put
from upstash_state.local import LocalEndpoint


def test_a_text_that_is_not_an_order_is_listed_and_shown_as_stored(
    few: LocalEndpoint, tool: Tool
) -> None:
    put(few, "order:7", '{"name": "cut off', ttl=None)
    assert tool("list").out.split("\t")[2:5] == ["-1", "17", "(unreadable)"]
    status, out, err = tool("show", "7")
    assert status == 1
    assert '{"name": "cut off' in out
    assert "not an order in JSON" in err
    assert json.loads(tool("show", "7", "--json").out)["stored"] == '{"name": "cut off'


def test_json_is_strict(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", '{"name": NaN, "a": [-Infinity, 1e999, 1.5, 3], "status": 7}')

    def refuse(name: str) -> None:
        raise AssertionError(name)

    shown = json.loads(tool("show", "1", "--json").out, parse_constant=refuse)
    assert shown["order"] == {"name": "NaN", "a": ["-Infinity", "1e999", 1.5, 3], "status": 7}
    listed = json.loads(tool("list", "--json").out, parse_constant=refuse)
    assert (listed[0]["name"], listed[0]["status"]) == ("nan", "7")
