"""What the README promises to programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.cli import (
    Tool,
    put,
)
from tests.support.paths import ROOT
from upstash_state.local import LocalEndpoint


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
