"""`export`: complete files, whatever the target, and nothing left over."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.cli import (
    SECONDS,
    TTL,
    Gate,
    Terminal,
    Tool,
    environment,
    names,
    piped,
    put,
)
from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint


def test_a_terminal_shows_how_far_it_is(many: LocalEndpoint, tmp_path: Path) -> None:
    file = str(tmp_path / "orders.jsonl")
    with Terminal(environment(many.url), "export", file) as terminal:
        assert terminal.end() == 0
    assert re.search("exported [1-5],000 orders", terminal.text)
    assert terminal.shown == f"5,000 orders exported to {file}\n"
    with Terminal(environment(many.url), "import", file) as terminal:
        assert terminal.end() == 0
    assert re.search("imported [0-9,]+ orders", terminal.text)
    assert terminal.shown == "5,000 orders: 5,000 already there\n"


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
            assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    assert "upstash-state: interrupted" in terminal.text
    assert [path.name for path in tmp_path.iterdir()] == ["orders.jsonl"]
    assert file.read_text() == "what was there"


def test_an_export_goes_through_a_link_and_into_a_fifo(
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
        assert os.read(reader, 1000).startswith(b'{"id": "1"')
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


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


@pytest.mark.parametrize("command", ["import", "export"])
def test_a_file_that_cannot_be_opened_is_named(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, command: str
) -> None:
    missing = tmp_path / "missing" / "orders.jsonl"
    status, out, err = tool(command, str(missing))
    assert (status, out) == (1, "")
    assert str(missing.parent) in err
    assert "Traceback" not in err


def test_export_as_json(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    put(few, "order:1", "{}", ttl=TTL)
    file = str(tmp_path / "f")
    assert json.loads(tool("export", file, "--json").out) == {"exported": 1, "file": file}


@pytest.mark.parametrize(
    "path", ["/dev/stdout", "/dev/fd/1", "/dev/fd/3", "/proc/self/fd/3", "link"]
)
def test_an_export_into_a_file_that_is_open_already_is_added_to_it(
    few: LocalEndpoint, tmp_path: Path, path: str
) -> None:
    put(few, "order:1", "{}")
    file = tmp_path / "file"
    file.write_text("what was there\n")
    if path == "link":
        path = str(tmp_path / "link")
        os.symlink("/dev/stdout", path)
    number = "3" if path.endswith("3") else ""
    opening = f'exec {number}>> "$1"; exec {sys.executable} -m upstash_state export {path}'
    done = subprocess.run(
        ["sh", "-c", opening, "sh", str(file)],
        env=environment(few.url),
        capture_output=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    first, exported = file.read_text().splitlines()
    assert first == "what was there"
    assert json.loads(exported)["id"] == "1"
    assert done.stdout.decode() == (f"1 order exported to {path}\n" if number else "")


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="it is Linux's directory in memory")
def test_an_export_into_shared_memory_is_a_file_as_elsewhere(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", "{}")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        for file in (Path(directory, "orders.jsonl"), Path(f"{directory}.jsonl")):
            try:
                assert tool("export", str(file)).status == 0
                assert tool("export", str(file)).status == 0
                assert len(file.read_text().splitlines()) == 1
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
            finally:
                file.unlink(missing_ok=True)


def test_a_device_that_is_full_is_named(few: LocalEndpoint, tool: Tool) -> None:
    put(few, "order:1", "{}")
    said = "upstash-state: /dev/full: No space left on device\n"
    assert tool("export", "/dev/full") == (1, "", said)


def test_the_next_export_removes_what_a_killed_one_left(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    put(few, "order:1", "{}")
    file = tmp_path / "orders.jsonl"
    foreign = tmp_path / ".orders.jsonl.partial"
    foreign.touch()
    with Gate(few.url).open() as gate:
        gate.holds = lambda body: names(body)[0] == "TTL"
        command = [sys.executable, "-m", "upstash_state", "export", str(file)]
        env = environment(gate.url, UPSTASH_STATE_TIMEOUT="600")
        with subprocess.Popen(command, env=env) as killed:
            assert gate.holding.wait(SECONDS)
            # The file of an export that is still running stays.
            assert tool("export", str(file)).status == 0
            assert len(list(tmp_path.iterdir())) == 3
            killed.kill()
        assert len(list(tmp_path.iterdir())) == 3
        assert tool("export", str(file)).status == 0
    assert sorted(tmp_path.iterdir()) == [foreign, file]


@pytest.mark.skipif(os.geteuid() == 0, reason="for root every directory can be written to")
def test_a_directory_that_cannot_be_written_to_is_not_blamed_on_another_file(
    few: LocalEndpoint, tool: Tool, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    file = tmp_path / "orders.jsonl"
    assert tool("export", str(file)).err == (f"upstash-state: {file}: Permission denied\n")


def test_a_full_disk_names_the_file_that_was_asked_for(
    few: LocalEndpoint, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "orders.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, out, err = tool("export", str(file))
    assert (status, out) == (1, "")
    assert err == f"upstash-state: {file}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_gets_its_target(few: LocalEndpoint, tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    assert tool("export", str(tmp_path / "link")).status == 0
    assert (tmp_path / "target").exists()


def test_a_fifo_named_like_a_partial_file_does_not_block_the_export(
    few: LocalEndpoint, tmp_path: Path
) -> None:
    put(few, "order:1", "{}")
    os.mkfifo(tmp_path / ".orders.jsonl.x.partial")
    file = str(tmp_path / "orders.jsonl")
    assert piped(environment(few.url), "export", file).out == f"1 order exported to {file}\n"


@pytest.mark.slow
def test_an_endpoint_that_is_slow_for_each_command_gets_smaller_requests(
    few: LocalEndpoint, tmp_path: Path
) -> None:
    file = tmp_path / "orders.jsonl"
    with UpstashRedis(few.url, few.token) as client:
        client.msetex({f"order:{number}": "{}" for number in range(300)}, ex=TTL)
    with Gate(few.url).open() as gate:
        gate.holds = lambda body: len(names(body)) > 30
        env = environment(gate.url, UPSTASH_STATE_TIMEOUT="3")
        exported = piped(env, "export", str(file))
        assert (exported.status, exported.err) == (0, "")
        assert len(file.read_text().splitlines()) == 300
        with UpstashRedis(few.url, few.token) as client:
            client.execute_command("FLUSHDB")
        imported = piped(env, "import", str(file))
        assert imported == (0, "300 orders: 300 written\n", "")
