"""Export and import: everything comes back, nothing newer is lost, both may be interrupted."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.cli import (
    SECONDS,
    TOKEN,
    TTL,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
    use,
)
from tests.support.paths import STORED_ORDERS
from upstash_state import OrderStore, UpstashRedis, serialize_order
from upstash_state.local import LocalEndpoint
from upstash_state.tool.exporting import LAST_MOMENT
from upstash_state.tool.importing import Import
from upstash_state.tool.terminal import Progress

MANY = 5000


@pytest.fixture
def many(redis_url: str, tcp: redis.Redis) -> Iterator[LocalEndpoint]:
    """5,000 orders, which expire a second after each other."""
    with tcp.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            text = serialize_order({"name": f"#{number}", "customer": "Zoë 🍕 \u2028 \ud800"})
            pipeline.set(f"order:{number}", text, ex=1000 + number)
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


def contents(tcp: redis.Redis) -> dict[Any, Any]:
    keys = sorted(tcp.keys())
    return dict(zip(keys, tcp.mget(keys)))


def write(path: Path, *lines: object) -> str:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(path)


def line(order_id: str, order: dict[str, Any], expires_in: float | None) -> dict[str, Any]:
    moment = (
        None if expires_in is None else datetime.now(timezone.utc) + timedelta(seconds=expires_in)
    )
    return {
        "id": order_id,
        "stored": serialize_order(order),
        "expires_at": None if moment is None else moment.isoformat(timespec="seconds"),
    }


def test_an_export_imported_into_an_empty_database_gives_the_same(
    many: LocalEndpoint, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    before = contents(tcp)
    exported = piped(environment(many.url), "export", file)
    assert exported == (0, f"5,000 orders exported to {file}\n", "")
    tcp.flushall()
    imported = piped(environment(many.url), "import", file)
    assert imported.out == (
        "5,000 orders: 5,000 written, 0 already there, 0 expired, 0 newer, 0 broken\n"
    )
    assert (imported.status, imported.err) == (0, "")
    assert contents(tcp) == before
    for number in (0, 4999):
        assert 1000 + number - SECONDS < tcp.ttl(f"order:{number}") <= 1000 + number


def test_it_goes_through_a_pipe(many: LocalEndpoint, tcp: redis.Redis) -> None:
    before = contents(tcp)
    exported = piped(environment(many.url), "export", "-")
    assert exported.err == ""
    assert exported.out.count("\n") == MANY
    tcp.flushall()
    imported = piped(environment(many.url), "import", "-", "--json", stdin=exported.out)
    assert json.loads(imported.out)["written"] == MANY
    assert contents(tcp) == before


def test_importing_again_writes_nothing(many: LocalEndpoint, tmp_path: Path) -> None:
    file = str(tmp_path / "orders.jsonl")
    piped(environment(many.url), "export", file)
    before = many.usage().commands
    again = piped(environment(many.url), "import", file)
    assert (again.status, again.err) == (0, "")
    assert "0 written, 5,000 already there" in again.out
    assert many.usage().commands - before == MANY // 1000


def test_an_import_costs_a_command_for_each_order_and_one_for_each_thousand(
    many: LocalEndpoint, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    piped(environment(many.url), "export", file)
    tcp.flushall()
    before = many.usage().commands
    piped(environment(many.url), "import", file)
    assert many.usage().commands - before == MANY + MANY // 1000


def test_a_terminal_shows_how_far_it_is(many: LocalEndpoint, tmp_path: Path) -> None:
    file = str(tmp_path / "orders.jsonl")
    with Terminal(environment(many.url), "export", file) as terminal:
        assert terminal.end() == 0
    assert "\rexported 5,000 orders\r" in terminal.text
    with Terminal(environment(many.url), "import", file) as terminal:
        assert terminal.end() == 0
    assert "\rimported 1,000 orders\r" in terminal.text


def test_the_file_can_be_read_by_its_owner_only(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    file = tmp_path / "orders.jsonl"
    tool("export", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_interrupted_export_leaves_the_old_file_and_no_other(
    many: LocalEndpoint, tmp_path: Path
) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("what was there")
    with Gate(many.url).open() as gate:
        gate.holds = lambda body: names(body)[0] == "TTL" and len(gate.seen) > 4
        with Terminal(environment(gate.url), "export", str(file)) as terminal:
            assert gate.holding.wait(SECONDS)
            terminal.type("\x03")
            assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert "upstash-state: interrupted" in terminal.text
    assert [path.name for path in tmp_path.iterdir()] == ["orders.jsonl"]
    assert file.read_text() == "what was there"


def test_an_interrupted_import_is_finished_by_running_it_again(
    many: LocalEndpoint, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    before = contents(tcp)
    piped(environment(many.url), "export", file)
    tcp.flushall()
    with Gate(many.url).open() as gate:
        gate.holds = lambda body: names(body)[0] == "MGET" and len(gate.seen) > 4
        with Terminal(environment(gate.url), "import", file) as terminal:
            assert gate.holding.wait(SECONDS)
            terminal.type("\x03")
            assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert tcp.dbsize() == 2000
    again = piped(environment(many.url), "import", file)
    assert "3,000 written, 2,000 already there" in again.out
    assert contents(tcp) == before


def test_an_export_goes_through_a_link_and_into_what_is_no_file(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", "{}")
    target, link, fifo = tmp_path / "target", tmp_path / "link", tmp_path / "fifo"
    target.write_text("")
    link.symlink_to(target)
    assert tool("export", str(link)).status == 0
    assert link.is_symlink()
    assert target.read_text().startswith('{"id": "1"')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert tool("export", str(fifo)).status == 0
        assert os.read(reader, 1000) == target.read_bytes()
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_an_order_that_never_expires_comes_back_as_one(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", "{}", ttl=None)
    put(few, "order:2", "{}", ttl=LAST_MOMENT)
    file = str(tmp_path / "orders.jsonl")
    tool("export", file)
    tool("delete", "1", "2", "--yes")
    assert tool("import", file).status == 0
    with UpstashRedis(few.url, few.token) as client:
        assert client.ttl("order:1") == -1
        assert client.ttl("order:2") > LAST_MOMENT - time.time() - SECONDS


@pytest.mark.parametrize(
    ("in_file", "in_redis", "kept"),
    [
        (1000, 900, False),
        (1000, 1100, True),
        (1000, 1000, True),
        (1000, None, True),
        (None, 900, True),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_expires_later_was_saved_later_and_is_kept(
    few: LocalEndpoint,
    tool: Tool,
    tmp_path: Path,
    in_file: int | None,
    in_redis: int | None,
    kept: bool,
    force: bool,
) -> None:
    put(few, "order:1", '{"from": "redis"}', ttl=in_redis)
    file = write(tmp_path / "orders.jsonl", line("1", {"from": "file"}, in_file))
    status, out, err = tool("import", file, "--json", *["--force"] * force)
    kept = kept and not force
    assert status == kept
    assert json.loads(out)["newer" if kept else "written"] == 1
    assert not err
    shown = json.loads(tool("show", "1", "--json").out)
    assert shown["order"] == {"from": "redis" if kept else "file"}
    if not kept:
        expected = -1 if in_file is None else in_file
        assert expected - SECONDS < shown["ttl"] <= expected


def test_what_is_kept_is_said(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    put(few, "order:1", '{"from": "redis"}')
    _, out, err = tool("import", write(tmp_path / "f", line("1", {"from": "file"}, 1000)))
    assert out == "1 order: 0 written, 0 already there, 0 expired, 1 newer, 0 broken\n"
    assert "--force" in err


def test_an_order_saved_while_it_is_being_imported_is_newer(
    few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with UpstashRedis(few.url, few.token) as client:
        mget = client.mget

        def mget_before_the_app_saves(keys: Any) -> list[str | None]:
            values = mget(keys)
            client.set("order:1", "saved meanwhile")
            return values

        monkeypatch.setattr(client, "mget", mget_before_the_app_saves)
        work = Import(OrderStore(client), force=False, progress=Progress("imported"))
        work.run([json.dumps(line("1", {}, 1000)).encode(), json.dumps(line("2", {}, 99)).encode()])
        assert (work.counts["newer"], work.counts["written"]) == (1, 1)
        assert client.get("order:1") == "saved meanwhile"


def test_what_has_expired_since_stays_away(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    file = write(tmp_path / "orders.jsonl", line("1", {}, -5), line("2", {}, 60))
    status, out, _ = tool("import", file, "--json")
    assert status == 0
    assert {kind: n for kind, n in json.loads(out).items() if n} == {"written": 1, "expired": 1}


def test_a_line_without_expiry_gets_the_apps(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form of the demo's files, and of orders that somebody has gathered elsewhere."""
    monkeypatch.setenv("UPSTASH_STATE_TTL", "5000")
    status, out, _ = tool("import", str(STORED_ORDERS), "--json")
    assert (status, json.loads(out)["written"]) == (0, 160)
    ttls = [row["ttl"] for row in json.loads(tool("list", "--json").out)]
    assert 5000 - SECONDS < min(ttls) <= max(ttls) <= 5000


def test_broken_lines_are_named_and_the_others_imported(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    good = line("1", {}, 100)
    lines = [
        b"\xef\xbb\xbf" + json.dumps(good).encode(),
        b'{"id": "2", "stored": "{',
        b"",
        b"[" * 100_000,
        b"17",
        json.dumps(good | {"id": 3}).encode(),
        json.dumps(good | {"stored": "[]"}).encode(),
        json.dumps(good | {"stored": "not JSON"}).encode(),
        json.dumps(good | {"expires_at": "soon"}).encode(),
        json.dumps(good | {"expires_at": "2025-12-08T11:00:28"}).encode(),
        json.dumps(good | {"expires_at": 1765191628}).encode(),
        json.dumps(good | {"id": "\ud800"}).encode(),
        b'{"id": "\xff", "stored": "{}"}',
        json.dumps(good | {"id": "k" * 40_000}).encode(),
        json.dumps(good | {"id": "last", "expires_at": "9999-12-31T23:59:59Z"}).encode(),
    ]
    file = tmp_path / "orders.jsonl"
    file.write_bytes(b"\r\n".join(lines))
    status, out, err = tool("import", str(file))
    named = [int(said.split()[2]) for said in err.splitlines()]
    assert status == 1
    assert sorted(named) == [2, *range(4, 15)]
    assert "Traceback" not in err
    assert out.startswith("14 orders: 2 written, ")
    assert tool("count").out == "2\n"


def test_of_two_lines_with_one_id_the_one_that_expires_later_stays(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    older, newer = line("1", {"n": 1}, 100), line("1", {"n": 2}, 200)
    assert tool("import", write(tmp_path / "f", older, newer)).out.startswith("2 orders: 2 written")
    assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}
    assert tool("import", write(tmp_path / "g", newer, older)).status == 1
    assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}


def test_a_line_without_expiry_overwrites_nothing(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", '{"from": "redis"}', ttl=5)
    file = write(tmp_path / "f", {"id": "1", "stored": '{"from": "file"}'})
    assert json.loads(tool("import", file, "--json").out)["newer"] == 1


def test_text_that_utf_8_cannot_carry_is_escaped(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(few, "order:1", "{}")
    with Gate(few.url).open() as gate:
        gate.answer = lambda body: (
            (200, '{"result": ["\\ud800"]}') if names(body) == ["MGET"] else None
        )
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        status, out, err = tool("export", "-")
    assert (status, err) == (0, "")
    assert json.loads(out)["stored"] == "\ud800"


def test_batches_that_are_too_large_are_halved(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [line(str(number), {"note": "x" * 1000}, 1000) for number in range(50)]
    file = write(tmp_path / "f", *lines, line("large", {"note": "x" * 9000}, 1000))
    with LocalEndpoint(token=TOKEN, max_request_bytes=5000) as endpoint:
        use(monkeypatch, endpoint.url)
        status, out, err = tool("import", file, "--json")
        assert (status, json.loads(out)["written"], json.loads(out)["broken"]) == (1, 50, 1)
        assert err.startswith("upstash-state: line 51 not imported: ERR max request size exceeded")
        assert "50 already_there" not in out
        assert json.loads(tool("import", file, "--json").out)["already_there"] == 50


def test_a_refusal_ends_the_import_with_its_reason(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, few.url, few.read_only_token)
    status, out, err = tool("import", write(tmp_path / "f", line("1", {}, 100)))
    assert (status, out) == (1, "")
    assert "NOPERM" in err


@pytest.mark.parametrize("command", ["import", "export"])
def test_a_file_that_cannot_be_opened_is_named(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, command: str
) -> None:
    missing = tmp_path / "missing" / "orders.jsonl"
    status, out, err = tool(command, str(missing))
    assert (status, out) == (1, "")
    assert str(missing.parent) in err
    assert "Traceback" not in err


def test_export_as_json_says_how_many(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    put(few, "order:1", "{}", ttl=TTL)
    file = str(tmp_path / "f")
    assert json.loads(tool("export", file, "--json").out) == {"exported": 1, "file": file}
