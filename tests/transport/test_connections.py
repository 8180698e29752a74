"""Kept connections and name lookups: what a call may rely on beneath HTTP."""

from __future__ import annotations

import gc
import gzip
import http.client
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support.clock import Stopwatch
from tests.support.faults import Certificates, Fault, FaultServer
from tests.support.faults import wire as faults
from tests.support.faults.connection import Connection, response
from tests.support.faults.fault import Stage
from tests.support.faults.wire import CHUNKED
from tests.support.paths import ROOT
from tests.support.sending import run
from upstash_state import EndpointTimeoutError, UnavailableError, UpstashRedis, commands
from upstash_state.local import LocalEndpoint
from upstash_state.transport import Answer, Endpoint, Send, deadline, intercepting
from upstash_state.transport.http import IDLE_LIMIT


@pytest.fixture
def redis(endpoint: LocalEndpoint) -> UpstashRedis:
    return UpstashRedis(endpoint.url, endpoint.token, timeout=5)


class Opened:
    """Counts the connections that are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        create = urllib3.util.connection.create_connection

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return create(*args, **kwargs)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", counted)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


class WallClock:
    """The time of day, which can be moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


def test_a_connection_is_kept(redis: UpstashRedis, opened: Opened) -> None:
    for _ in range(5):
        redis.ping()
    assert opened.count == 1


@pytest.mark.parametrize(
    ("idle", "expected"),
    [(0, 1), (IDLE_LIMIT - 1, 1), (IDLE_LIMIT, 2), (86_400, 2), (-5, 2)],
)
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    redis: UpstashRedis, opened: Opened, wall: WallClock, idle: float, expected: int
) -> None:
    redis.ping()
    wall.now += idle
    redis.ping()
    assert opened.count == expected


@pytest.fixture
def forgetful(server: FaultServer, wall: WallClock) -> UpstashRedis:
    """A client of a server that swallows what comes over a kept connection; it has one."""
    redis = UpstashRedis(server.url, server.token, timeout=2)
    redis.ping()
    server.plan(faults.kept_connection_swallowed, None)
    return redis


def test_a_kept_connection_that_was_forgotten_is_replaced_within_the_call(
    forgetful: UpstashRedis, server: FaultServer, wall: WallClock
) -> None:
    wall.now += 10
    run(forgetful, commands.ping())
    assert server.struck["kept_connection_swallowed"] == 1


def test_after_a_forgotten_kept_connection_a_new_one_is_opened(
    server: FaultServer, wall: WallClock
) -> None:
    redis = UpstashRedis(server.url, server.token, timeout=2)
    both = threading.Barrier(2)

    def together(wire: Endpoint, send: Send) -> Send:
        def wait_and_send(path: str, body: bytes, deadline: float) -> Answer:
            both.wait(5)
            return send(path, body, deadline)

        return wait_and_send

    threads = [threading.Thread(target=redis.ping) for _ in range(2)]
    with intercepting(together):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    wall.now += 10
    server.plan(faults.kept_connection_swallowed, None)
    redis.ping()
    assert server.struck["kept_connection_swallowed"] == 1


def test_a_command_that_may_have_executed_is_not_repeated_on_a_fresh_connection(
    forgetful: UpstashRedis, server: FaultServer, wall: WallClock
) -> None:
    wall.now += 10
    with pytest.raises(EndpointTimeoutError):
        forgetful.execute_command("INCR", "visits")
    assert server.struck["kept_connection_swallowed"] == 1
    assert not any(b"INCR" in request.body for request in server.requests)


def answers_after(seconds: float) -> Fault:
    def act(connection: Connection) -> None:
        connection.read()
        connection.server.closing.wait(seconds)
        connection.reply()

    return replace(faults.never_answers, name="slow", act=act)


@pytest.mark.slow
def test_a_slow_endpoint_is_waited_for_on_a_kept_connection_too(
    server: FaultServer, wall: WallClock
) -> None:
    server.plan(answers_after(1.1), None)
    redis = UpstashRedis(server.url, server.token, timeout=2)
    for idle in (0, 0, 10):
        wall.now += idle
        assert redis.set("k", "v")
    assert len(server.requests) == 3


def test_a_connection_in_use_gets_the_whole_time(server: FaultServer) -> None:
    redis = UpstashRedis(server.url, server.token, timeout=2)
    redis.ping()
    server.plan(answers_after(1.1), None)
    assert redis.set("k", "v")
    assert len(server.requests) == 2


def test_the_time_to_send_a_request_does_not_count_as_silence(
    server: FaultServer, wall: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = deadline.Limited._send

    def slow(sock: deadline.Limited, attempt: deadline.Attempt) -> None:
        server.closing.wait(1.1)
        send(sock, attempt)

    redis = UpstashRedis(server.url, server.token, timeout=2)
    redis.ping()
    wall.now += 10
    monkeypatch.setattr(deadline.Limited, "_send", slow)
    assert redis.set("k", "v" * 100_000)
    assert len(server.requests) == 2


def test_a_second_answer_is_not_taken_for_the_next_requests(server: FaultServer) -> None:
    def twice(connection: Connection) -> None:
        body = connection.run()
        connection.send(response(body) + response(b'{"result": "of another request"}'))

    server.plan(replace(faults.never_answers, act=twice))
    redis = UpstashRedis(server.url, server.token)
    assert redis.set("k", "v")
    assert redis.get("k") == "v"


def chunked(body: bytes) -> bytes:
    return response(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), headers=CHUNKED)


def zipped(body: bytes) -> bytes:
    return response(gzip.compress(body), headers={"Content-Encoding": "gzip"})


def zipped_chunks(body: bytes) -> bytes:
    body = gzip.compress(body)
    text = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return response(text, headers={**CHUNKED, "Content-Encoding": "gzip"})


@pytest.mark.parametrize("rest", [1, 30])
@pytest.mark.parametrize("first", [response, chunked, zipped, zipped_chunks])
def test_a_partial_second_answer_is_not_taken_for_the_next_requests(
    server: FaultServer, first: Callable[[bytes], bytes], rest: int
) -> None:
    def twice(connection: Connection) -> None:
        answers = first(connection.run()) + response(b'{"result": "of another request"}')
        connection.send(answers[:-rest])
        connection.server.closing.wait(0.1)
        connection.send(answers[-rest:])

    server.plan(replace(faults.never_answers, act=twice))
    redis = UpstashRedis(server.url, server.token)
    assert redis.set("k", "v")
    # It would be sent again if it were a `get`.
    assert redis.execute_command("GET", "k") == "v"


def test_closing_a_client_closes_its_kept_connections(server: FaultServer) -> None:
    closed = threading.Event()

    def watched(connection: Connection) -> None:
        connection.reply()
        if not connection.wait():
            closed.set()

    server.plan(replace(faults.never_answers, act=watched))
    redis = UpstashRedis(server.url, server.token, timeout=20)
    redis.ping()
    redis.close()
    assert closed.wait(10)


def test_the_answer_that_follows_an_interim_one_is_not_taken_for_the_next_requests(
    server: FaultServer,
) -> None:
    def twice(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        # Later than when the next request has come, if it comes on this connection.
        if connection.wait():
            connection.send(response(b'{"result": "of another request"}'))
        connection.close()

    server.plan(replace(faults.never_answers, act=twice))
    redis = UpstashRedis(server.url, server.token, timeout=20)
    with pytest.raises(UnavailableError, match="103"):
        redis.set("k", "v")
    assert redis.get("k") is None


class SlowNames:
    """A resolver that does not answer until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = threading.Event()
        resolve = socket.getaddrinfo

        def slow(host: str, *args: Any, **kwargs: Any) -> Any:
            assert self.answer.wait(timeout=10)
            return resolve("127.0.0.1", *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", slow)


def connecting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "upstash_state connecting"]


def test_a_name_that_resolves_slowly_does_not_hold_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = SlowNames(monkeypatch)
    redis = UpstashRedis("http://slow.test:1", "token", timeout=0.2, allow_http=True)
    try:
        with pytest.raises(EndpointTimeoutError):
            redis.ping()
        assert not names.answer.is_set()
        assert len(connecting()) == 1
    finally:
        names.answer.set()
        for thread in connecting():
            thread.join(timeout=5)
    assert connecting() == []


def test_a_connection_that_is_made_too_late_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        names = SlowNames(monkeypatch)
        url = f"http://slow.test:{listener.getsockname()[1]}"
        gc.disable()
        try:
            with pytest.raises(EndpointTimeoutError) as caught:
                UpstashRedis(url, "token", timeout=0.2, allow_http=True).ping()
            names.answer.set()
            for thread in connecting():
                thread.join(timeout=5)
            listener.settimeout(5)
            with closing(listener.accept()[0]) as accepted:
                accepted.settimeout(5)
                assert accepted.recv(1) == b""
        finally:
            gc.enable()
    assert not caught.value.may_have_executed


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started to connect."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "upstash_state connecting":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_threads")
def test_where_no_thread_can_be_started_the_call_connects_itself(redis: UpstashRedis) -> None:
    assert redis.ping()


@pytest.mark.usefixtures("no_threads")
def test_a_call_that_connects_itself_sends_nothing_when_its_time_is_over(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = 0
    resolve = socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:
        nonlocal looked_up
        looked_up += 1
        server.closing.wait(0.5)
        return resolve(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(EndpointTimeoutError) as caught:
        UpstashRedis(server.url, server.token, timeout=0.2).ping()
    assert not caught.value.may_have_executed
    assert looked_up == 1
    assert not server.requests


@pytest.mark.usefixtures("no_threads")
def test_a_call_that_connects_itself_does_not_wait_for_an_endpoint_that_is_silent(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with FaultServer(certificates) as server:
        server.plan(faults.handshake_that_never_ends, None)
        with Stopwatch() as watch, pytest.raises(EndpointTimeoutError):
            UpstashRedis(server.url, server.token, timeout=0.5).ping()
    assert watch.seconds < 3


def test_a_name_that_does_not_exist_is_an_error_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    redis = UpstashRedis("https://no.such.test", "token")
    with pytest.raises(UnavailableError, match="Name or service not known"):
        redis.ping()


def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(endpoint.url.rsplit(":", 1)[1])
    # A listener whose queue is full takes no more connections and refuses none.
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    queued = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(full.getsockname())
        queued.append(client)
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname()),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: addresses)
    redis = UpstashRedis(endpoint.url, endpoint.token, timeout=2)
    assert redis.ping()
    for sock in (*queued, full):
        sock.close()


def test_netrc_does_not_replace_the_token(
    endpoint: LocalEndpoint,
    redis: UpstashRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    assert redis.ping()


def test_the_debugging_of_http_client_does_not_print_the_token(
    endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    UpstashRedis(endpoint.url, endpoint.token).ping()
    assert endpoint.token not in capsys.readouterr().out


def test_no_log_record_of_any_level_holds_the_token(
    endpoint: LocalEndpoint, redis: UpstashRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    redis.set("k", "v")
    assert "urllib3" in {record.name.split(".")[0] for record in caplog.records}
    for record in caplog.records:
        assert endpoint.token not in repr(vars(record)) + record.getMessage()


def test_loopback_is_never_reached_through_a_proxy(
    redis: UpstashRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert redis.ping()


def test_a_missing_ca_bundle_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(
        UnavailableError, match=r"CA bundle /no/such/bundle\.pem cannot be used: No such file"
    ):
        UpstashRedis("https://127.0.0.1:9", "token").ping()


def test_what_is_sent_at_exit_goes_over_the_kept_connection(server: FaultServer) -> None:
    code = """
import upstash_state
upstash_state.redis_get_order("1")
upstash_state.redis_save_order("1", {"name": "at exit"})
"""
    stages: list[Stage] = []
    server.choose = lambda stage: stages.append(stage)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        env={
            "PYTHONPATH": str(ROOT),
            "UPSTASH_REDIS_REST_URL": server.url,
            "UPSTASH_REDIS_REST_TOKEN": server.token,
            "UPSTASH_STATE_BACKGROUND": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert b"at exit" in server.requests[-1].body
    assert stages.count(Stage.ACCEPTING) == 1
