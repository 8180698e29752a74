"""`import`: everything comes back, nothing newer is lost, and it may be interrupted."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import hypothesis
import pytest
import redis
from hypothesis import strategies as st

from tests.support.cli import (
    SECONDS,
    TOKEN,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
    use,
)
from tests.support.clock import Stopwatch
from tests.support.paths import STORED_ORDERS
from upstash_state import OrderStore, UpstashRedis, serialize_order
from upstash_state.cli.demo import read_orders
from upstash_state.cli.export import LAST_MOMENT
from upstash_state.cli.import_ import LONGEST_LINE, imported
from upstash_state.local import LocalEndpoint

#: Orders of `many`, and how many MGETs read them: of 100, 200, 400, 500, 500, 500 and 300.
MANY, REQUESTS = 2500, 7


@pytest.fixture
def many(
    redis_url: str, tcp: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalEndpoint]:
    """2,500 orders, which expire a second after each other."""
    with tcp.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            text = serialize_order({"name": f"#{number}", "customer": "Zoë 🍕 \u2028 \ud800"})
            pipeline.set(f"order:{number}", text, ex=1000 + number)
        pipeline.execute()
    with LocalEndpoint(redis_url=redis_url, token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        yield endpoint


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
    many: LocalEndpoint, tool: Tool, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    before = contents(tcp)
    exported = tool("export", file)
    assert exported == (0, f"2,500 orders exported to {file}\n", "")
    tcp.flushall()
    imported = tool("import", file)
    assert imported.out == ("2,500 orders: 2,500 written\n")
    assert (imported.status, imported.err) == (0, "")
    assert contents(tcp) == before
    for number in (0, 2499):
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


def test_importing_again_writes_nothing(many: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    file = str(tmp_path / "orders.jsonl")
    tool("export", file)
    before = many.usage().commands
    again = tool("import", file)
    assert (again.status, again.err) == (0, "")
    assert again.out == "2,500 orders: 2,500 already there\n"
    assert many.usage().commands - before == REQUESTS


def test_an_import_costs_a_command_for_each_order_and_one_for_each_500(
    many: LocalEndpoint, tool: Tool, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    tool("export", file)
    tcp.flushall()
    before = many.usage().commands
    tool("import", file)
    assert many.usage().commands - before == MANY + REQUESTS


@pytest.mark.slow
def test_an_interrupted_import_is_finished_by_running_it_again(
    many: LocalEndpoint, tool: Tool, tcp: redis.Redis, tmp_path: Path
) -> None:
    file = str(tmp_path / "orders.jsonl")
    before = contents(tcp)
    tool("export", file)
    tcp.flushall()
    with Gate(many.url).open() as gate:
        gate.holds = lambda body: names(body)[0] == "MGET" and len(gate.seen) > 10
        with Terminal(environment(gate.url), "import", file) as terminal:
            assert gate.holding.wait(SECONDS)
            assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert "interrupted after 1,700 orders: run it again to import the rest" in terminal.text
    assert tcp.dbsize() == 1700
    again = tool("import", file)
    assert "800 written, 1,700 already there" in again.out
    assert contents(tcp) == before


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


def test_a_kept_order_is_reported(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    put(few, "order:1", '{"from": "redis"}')
    _, out, err = tool("import", write(tmp_path / "f", line("1", {"from": "file"}, 1000)))
    assert out == "1 order: 1 newer\n"
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
        lines = "\n".join(json.dumps(line(order_id, {}, 1000)) for order_id in ("1", "2"))
        file = io.BufferedReader(io.BytesIO(lines.encode()))
        assert list(imported(OrderStore(client), file, False)) == [(1, "newer"), (2, "written")]
        assert client.get("order:1") == "saved meanwhile"


def test_an_order_keeps_its_expiry_through_many_exports(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    file = tmp_path / "orders"
    store = OrderStore(UpstashRedis(few.url, few.token), ttl=1000)
    store.save("1", {})
    moments = []
    for _ in range(6):
        assert tool("export", str(file)).status == 0
        moments.append(datetime.fromisoformat(json.loads(file.read_text())["expires_at"]))
        store.delete("1")
        assert tool("import", str(file)).status == 0
    # Redis rounds a TTL to seconds, and time passes until it is read.
    assert max(moments) - min(moments) <= timedelta(seconds=2)


def test_an_expired_order_is_not_imported(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    file = write(tmp_path / "orders.jsonl", line("1", {}, -5), line("2", {}, 60))
    status, out, _ = tool("import", file, "--json")
    assert status == 0
    assert {kind: n for kind, n in json.loads(out).items() if n} == {"written": 1, "expired": 1}


def test_a_line_without_expiry_expires_like_a_new_save(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's files have no expiry."""
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
    assert out == "14 orders: 2 written, 12 broken\n"
    assert tool("count").out == "2\n"


def test_of_two_lines_with_one_id_the_one_that_expires_later_is_imported(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    older, newer = line("1", {"n": 1}, 100), line("1", {"n": 2}, 200)
    assert (
        tool("import", write(tmp_path / "f", older, newer)).out
        == "2 orders: 1 written, 1 duplicate\n"
    )
    assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}
    tool("delete", "1", "--yes")
    # Not newer in Redis: it is the file itself that has it twice.
    outcome = tool("import", write(tmp_path / "g", newer, older, newer))
    assert outcome == (0, "3 orders: 1 written, 2 duplicate\n", "")
    assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}
    assert tool("import", str(tmp_path / "g"), "--force").out.endswith("2 duplicate\n")
    assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}


@pytest.mark.parametrize("between", [0, 150])
def test_of_two_lines_with_one_id_an_older_one_that_comes_later_is_not_imported(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, between: int
) -> None:
    """In the same request, and in a later one."""
    others = [line(f"other {number}", {}, 100) for number in range(between)]
    file = write(tmp_path / "f", line("1", {"n": 2}, 200), *others, line("1", {"n": 1}, 100))
    for _ in range(2):
        assert json.loads(tool("import", file, "--force", "--json").out)["duplicate"] == 1
        assert json.loads(tool("show", "1", "--json").out)["order"] == {"n": 2}


def test_a_line_without_expiry_overwrites_nothing(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", '{"from": "redis"}', ttl=5)
    file = write(tmp_path / "f", {"id": "1", "stored": '{"from": "file"}'})
    assert json.loads(tool("import", file, "--json").out)["newer"] == 1


def test_requests_that_are_too_large_are_split(
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


def test_a_name_that_ends_in_gz_is_compressed_and_read_back(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", '{"name": "#26"}')
    packed, plain = tmp_path / "orders.jsonl.gz", tmp_path / "orders.jsonl"
    tool("export", str(packed))
    tool("export", str(plain))
    assert gzip.decompress(packed.read_bytes()).partition(b"expires")[0] in plain.read_bytes()
    tool("delete", "1", "--yes")
    # By what it is, not by its name.
    assert tool("import", "-", stdin=packed.read_bytes()).out == "1 order: 1 written\n"


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_named(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "orders.gz"
    lines = "".join(json.dumps(line(str(n), {"n": n}, 100)) + "\n" for n in range(5000))
    data = gzip.compress(lines.encode())
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    file.write_bytes(data[:middle] if damage == "cut" else changed)
    status, _, err = tool("import", str(file))
    assert status == 1
    assert f"{file} is cut off or damaged after " in err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_named_as_such(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(json.dumps(line("1", {}, 100)), encoding=encoding)
    status, _, err = tool("import", str(file))
    assert status == 1
    assert err.startswith(f"upstash-state: {file} is in UTF-16, as PowerShell's > writes it")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_very_long_line_is_not_held_in_memory(few: LocalEndpoint, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    good = json.dumps(line("1", {}, 100)).encode()
    with file.open("wb") as out:
        out.write(b'{"id": "long", "stored": "')
        out.seek(600_000_000)
        out.write(b'"}\n' + good)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (5 * 10**8, 5 * 10**8))\n"
        "from upstash_state.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "import", str(file)],
        env=environment(few.url),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"upstash-state: line 1 not imported: it is longer than {LONGEST_LINE:,} bytes\n"
    )
    assert done.stdout == "2 orders: 1 written, 1 broken\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n" * 1000, "line 1 not imported: Expecting value"),
        (b"\x89PNG\r\n\x1a\n\x07" * 100, "line 1 not imported: "),
        (b'{"an": "object"}\n', "it is not a JSON object whose id and stored are text"),
        (b"[\n  {}\n]\n", "line 1 not imported: "),
        (b"id,name\n" * 100, "line 1 not imported: "),
        (b"x" * 1000, "line 1 not imported: "),
    ],
)
def test_a_file_that_is_no_export_gets_one_message(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    status, out, err = tool("import", str(file))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("upstash-state: the file is not an export: line 1 ")
    assert said in err


def test_of_many_broken_lines_the_first_20_are_named(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_text(json.dumps(line("1", {}, 1000)) + "\n{" * 500)
    status, out, err = tool("import", str(file))
    assert (status, out) == (1, "501 orders: 1 written, 500 broken\n")
    assert err.count("\n") == 21
    assert err.endswith("upstash-state: 480 more lines not imported\n")


def test_many_blank_lines_are_skipped_and_counted(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    good = json.dumps(line("1", {}, 1000)).encode()
    with file.open("wb") as out:
        out.write(b"\r\n" * 1_000_000)
        out.write(b"  " + good + b"\n\n{\n")
    with Stopwatch() as watch:
        done = tool("import", str(file))
    assert done.out == "2 orders: 1 written, 1 broken\n"
    assert "line 1000003 not imported" in done.err
    assert watch.seconds < 5


@hypothesis.settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    pieces=st.lists(
        st.sampled_from(
            [
                b'{"id": "1", "stored": "{}"}\n',
                b'{"id": "1", "stored": "{}", "expires_at": null}\n',
                b'{"id": 1, "stored": "{}"}\n',
                b'{"id": "1", "stored": "{}", "expires_at": "9999-12-31T23:59:59-23:59"}\n',
                b'{"id": "1", "stored": "{}", "expires_at": "0001-01-01T00:00:00+23:59"}\n',
                b'{"id": "2", "stored": "\\ud800"}\n',
                b'{"id": "2", "stored": "{\\"a\\": 1e999}"}\n',
                b"\x1f\x8b\x08\x00",
                b"\xff\xfe",
                b"\xef\xbb\xbf",
                b"\0",
                b"\r",
                b"\n",
                b"[" * 3000,
                b"1" * 5000,
            ]
        )
        | st.binary(max_size=20),
        max_size=8,
    )
)
def test_no_file_is_a_traceback(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, pieces: list[bytes]
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"".join(pieces))
    assert tool("import", str(file)).status in (0, 1)
    with contextlib.suppress(click.ClickException):
        read_orders(str(file))
