"""Kept connections and name lookups: what a call may rely on beneath HTTP."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from upstash_state import EndpointTimeoutError, UnavailableError, UpstashRedis
from upstash_state.local import LocalEndpoint
from upstash_state.transport import connections, names, sockets


@pytest.fixture
def redis(endpoint: LocalEndpoint) -> UpstashRedis:
    return UpstashRedis(endpoint.url, endpoint.token, timeout=5)


class Opened:
    """Counts the connections that are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        connect = connections.connect

        def counted(host: str, port: int) -> socket.socket:
            self.count += 1
            return connect(host, port)

        monkeypatch.setattr(connections, "connect", counted)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


def test_a_connection_is_kept(redis: UpstashRedis, opened: Opened) -> None:
    for _ in range(5):
        redis.ping()
    assert opened.count == 1


@pytest.mark.parametrize(
    ("idle", "expected"),
    [(0, 1), (connections.IDLE_LIMIT - 1, 1), (connections.IDLE_LIMIT, 2), (86_400, 2), (-5, 2)],
)
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    redis: UpstashRedis,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    idle: float,
    expected: int,
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(connections, "time", lambda: now)
    redis.ping()
    now += idle
    redis.ping()
    assert opened.count == expected


@contextmanager
def dropped_in_silence(redis: UpstashRedis, number: int = 1) -> Iterator[list[socket.socket]]:
    """Let so many kept connections take requests and never bring an answer.

    Yields:
        The far ends, which have what was sent.
    """
    adapter = redis._transport._wire._adapter
    assert adapter is not None
    far = []
    kept = [adapter._pool._get_conn() for _ in range(number)]
    for connection in kept:
        if connection.sock is not None:
            socket.close(connection.sock.detach())
        near, silent = socket.socketpair()
        connection.sock = sockets.Socket(near.family, near.type, near.proto, fileno=near.detach())
        connection.last_used = time.time()
        far.append(silent)
    for connection in kept:
        adapter._pool._put_conn(connection)
    yield far
    for silent in far:
        silent.close()


def test_a_kept_connection_that_was_forgotten_is_replaced_within_the_call(
    endpoint: LocalEndpoint, opened: Opened
) -> None:
    redis = UpstashRedis(endpoint.url, endpoint.token, timeout=0.6)
    redis.ping()
    with dropped_in_silence(redis):
        assert redis.set("k", "v")
    assert opened.count == 2


def test_when_one_kept_connection_was_forgotten_no_other_is_tried(
    endpoint: LocalEndpoint,
) -> None:
    redis = UpstashRedis(endpoint.url, endpoint.token, timeout=0.6)
    redis.ping()
    with dropped_in_silence(redis, 2) as far:
        assert redis.set("k", "v")
        asked = 0
        for silent in far:
            silent.setblocking(False)
            with suppress(BlockingIOError):
                asked += bool(silent.recv(10_000))
    assert asked == 1


def test_a_command_that_may_have_run_is_not_repeated_on_a_fresh_connection(
    endpoint: LocalEndpoint,
) -> None:
    redis = UpstashRedis(endpoint.url, endpoint.token, timeout=0.3)
    redis.ping()
    with dropped_in_silence(redis) as far:
        with pytest.raises(EndpointTimeoutError):
            redis.execute_command("INCR", "visits")
        assert b"INCR" in far[0].recv(10_000)
    assert redis.get("visits") is None


class SlowNames:
    """A resolver that does not answer until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        resolve = socket.getaddrinfo

        def slow(host: str, *args: Any, **kwargs: Any) -> Any:
            if kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
                return resolve(host, *args, **kwargs)
            self.asked.append(host)
            assert self.answer.wait(timeout=10)
            return resolve("127.0.0.1", *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", slow)


def lookups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "name lookup" in thread.name]


def test_a_name_that_resolves_slowly_does_not_hold_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = SlowNames(monkeypatch)
    redis = UpstashRedis("http://slow.test:1", "token", timeout=0.2, allow_http=True)
    try:
        begin = time.monotonic()
        with pytest.raises(EndpointTimeoutError):
            redis.ping()
        assert time.monotonic() - begin < 1
        with pytest.raises(EndpointTimeoutError):
            redis.ping()
        # The second call waited for the first one's lookup, and did not start another.
        assert names.asked == ["slow.test"]
        assert len(lookups()) == 1
    finally:
        names.answer.set()
        for thread in lookups():
            thread.join(timeout=5)
    assert lookups() == []


def test_where_no_thread_can_be_started_the_name_is_looked_up_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert 7 in {info[4][1] for info in names.resolve("localhost", 7, time.monotonic() + 5)}
    assert names._lookups == {}


def test_a_name_that_does_not_exist_is_an_error_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    redis = UpstashRedis("https://no.such.test", "token")
    with pytest.raises(UnavailableError, match="Name or service not known"):
        redis.ping()


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
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
    monkeypatch.setattr(sockets, "resolve", lambda host, port, deadline: addresses)
    redis = UpstashRedis(endpoint.url, endpoint.token, timeout=1)
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
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert redis.ping()


def test_a_ca_bundle_that_is_not_there_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(UnavailableError, match="No such file"):
        UpstashRedis("https://127.0.0.1:9", "token").ping()
