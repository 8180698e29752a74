"""The first connection is begun while requests is imported, if nothing can be in between."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Certificates, FaultServer
from tests.support.paths import ROOT

# Tells of each connection to a server whether requests had been imported by then.
SCRIPT = """
import json, logging, socket, sys
{prelude}
connect, imported = socket.socket.connect, []

def counted(self, address):
    imported.append("requests.sessions" in sys.modules)
    return connect(self, address)

socket.socket.connect = counted
from upstash_state import UpstashRedis
from upstash_state.transport.seam import intercepting
try:
    answer = {call}
except Exception as error:
    answer = f"{{type(error).__name__}}: {{error}}"
print(json.dumps([answer, imported]))
"""
PING = "UpstashRedis({url!r}, {token!r}, timeout=30).ping()"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    with FaultServer(Certificates(tmp_path_factory.mktemp("certificates"))) as server:
        yield server


def run(
    server: FaultServer, *, prelude: str = "", call: str = PING, url: str = "", **variables: str
) -> Any:
    code = SCRIPT.format(
        prelude=prelude, call=call.format(url=url or server.url, token=server.token)
    )
    assert server.certificates is not None
    bundle = {"REQUESTS_CA_BUNDLE": str(server.certificates.bundle)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(ROOT), **bundle, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def test_the_first_connection_is_begun_before_requests_is_imported(server: FaultServer) -> None:
    assert run(server) == [True, [False]]


@pytest.mark.parametrize(
    ("prelude", "variables"),
    [
        ("import requests", {}),
        ("import urllib3", {}),
        ("socket.socket = type('Guarded', (socket.socket,), {})", {}),
        ("", {"HTTP_PROXY": "http://127.0.0.1:9"}),
    ],
    ids=["requests", "urllib3", "sockets replaced", "a proxy"],
)
def test_nothing_is_begun_where_something_may_be_in_between(
    server: FaultServer, prelude: str, variables: dict[str, str]
) -> None:
    assert run(server, prelude=prelude, **variables) == [True, [True]]


def test_nothing_is_begun_where_attempts_are_intercepted(server: FaultServer) -> None:
    answer = 'Answer(200, {}, b\'{"result":"PONG"}\')'
    prelude = f"""
def replay():
    from upstash_state.transport.seam import Answer, intercepting
    with intercepting(lambda wire, send: lambda *_: {answer}):
        return {PING.format(url=server.url, token=server.token)}
"""
    assert run(server, prelude=prelude, call="replay()") == [True, []]


def test_what_goes_wrong_is_told_as_ever(server: FaultServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"https://127.0.0.1:{listener.getsockname()[1]}"
    [answer, imported] = run(server, url=nobody)
    assert "refused" in answer
    assert imported[:2] == [False, True]


def test_a_certificate_is_checked(server: FaultServer, tmp_path: Path) -> None:
    other = Certificates(tmp_path)
    [answer, imported] = run(server, REQUESTS_CA_BUNDLE=str(other.bundle))
    assert "certificate was refused" in answer
    assert imported == [False, True]


def test_the_time_limit_holds(server: FaultServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        [answer, imported] = run(server, url=url, call=PING.replace("timeout=30", "timeout=2"))
    assert answer.startswith("EndpointTimeoutError")
    assert imported[0] is False


def test_many_threads_may_come_first_at_once(server: FaultServer) -> None:
    prelude = f"""
def ping():
    return {PING.format(url=server.url, token=server.token)}

def pings():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(20) as pool:
        return [each.result() for each in [pool.submit(ping) for _ in range(20)]]
"""
    # In the first process the modules may have to be compiled, which hides what others race for.
    for _ in range(3):
        [answers, _] = run(server, prelude=prelude, call="pings()")
        assert answers == [True] * 20
