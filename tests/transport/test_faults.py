"""The fault server itself, seen from a raw socket: it behaves, and misbehaves, as told."""

from __future__ import annotations

import gc
import gzip
import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.support.faults import (
    FAULTS,
    Certificates,
    Connection,
    Fault,
    FaultServer,
    Kind,
    Stage,
    wire,
)

BY_NAME = {fault.name: fault for fault in FAULTS}
# How long to listen to a server of which nothing more is expected.
A_MOMENT = 0.2


@pytest.fixture
def tls_server(certificates: Certificates) -> Iterator[FaultServer]:
    with FaultServer(certificates) as server:
        yield server


class Client:
    """A raw socket, and how what came through it ended."""

    def __init__(self, server: FaultServer) -> None:
        port = int(server.url.rpartition(":")[2])
        self._token = server.token
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.sock.close()

    def secure(self, certificates: Certificates) -> None:
        context = ssl.create_default_context(cafile=str(certificates.bundle))
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def send(self, path: str, body: object) -> None:
        text = json.dumps(body)
        self.sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        )

    def receive(self, limit: int = 2**21) -> tuple[bytes, str]:
        """All that comes, and whether then came a close, a reset, silence, or ever more."""
        self.sock.settimeout(A_MOMENT)
        data = bytearray()
        while len(data) < limit:
            try:
                piece = self.sock.recv(65536)
            except TimeoutError:
                return bytes(data), "silence"
            except ConnectionResetError:
                return bytes(data), "reset"
            if not piece:
                return bytes(data), "closed"
            data += piece
        return bytes(data), "more"

    def answer(self) -> bytes:
        """One answer in good form."""
        data = b""
        complete = re.compile(rb"Content-Length: (\d+)\r\n.*?(?<=\r\n)\r\n", re.DOTALL)
        while not (head := complete.search(data)) or len(data) < head.end() + int(head[1]):
            piece = self.sock.recv(65536)
            assert piece, data
            data += piece
        return data

    def ask(self, *command: str) -> object:
        self.send("/", command)
        return json.loads(self.answer().partition(b"\r\n\r\n")[2])


def one_answer(server: FaultServer, path: str = "/", body: object = ("GET", "k")) -> bytes:
    with Client(server) as client:
        client.send(path, body)
        return client.answer()


def a_strike(server: FaultServer, body: object = ("GET", "k")) -> tuple[bytes, str]:
    with Client(server) as client:
        client.send("/", body)
        return client.receive()


def test_speaks_the_protocol(server: FaultServer) -> None:
    with Client(server) as client:
        assert client.ask("PING") == {"result": "PONG"}
        assert client.ask("SET", "k", "v", "EX", "60") == {"result": "OK"}
        assert client.ask("GET", "k") == {"result": "v"}
        assert client.ask("TTL", "k") == {"result": 60}
        assert client.ask("EXISTS", "k", "other") == {"result": 1}
        assert client.ask("MGET", "k", "other") == {"result": ["v", None]}
        assert client.ask("DEL", "k") == {"result": 1}
        assert client.ask("DEL", "k") == {"result": 0}
        assert client.ask("FLUSHALL") == {"error": "ERR Command is not available: 'FLUSHALL'"}
        client.send("/pipeline", [["INCR", "n"], ["INCR", "n"]])
        assert client.answer().endswith(b'[{"result": 1}, {"result": 2}]')


def test_scan_walks_through_every_key_though_others_go(server: FaultServer) -> None:
    server.redis.page = 2
    with Client(server) as client:
        for number in range(5):
            client.ask("SET", f"order:{number}", "v")
        cursor, seen = "0", []
        while True:
            answer = client.ask("SCAN", cursor, "MATCH", "order:*", "COUNT", "1000")
            assert isinstance(answer, dict)
            cursor, keys = answer["result"]
            seen += keys
            if cursor == "0":
                break
            client.ask("DEL", "order:0")
        assert seen == [f"order:{number}" for number in range(5)]


def test_wants_the_token(server: FaultServer) -> None:
    with Client(server) as client:
        client._token = "another"
        assert client.ask("PING") == {"error": "WRONGPASS invalid or missing auth token"}


# One of these every fault fits.
EXCHANGES = (
    ("/", ["GET", "k"]),
    ("/", ["MGET", "k", "j"]),
    ("/", ["SCAN", "0"]),
    ("/pipeline", [["MGET", "k"], ["SCAN", "1"]]),
)


def strikes(fault: Fault) -> bool:
    """Whether the fault changes what comes for one of the exchanges, until it is cleared."""
    with FaultServer() as server:
        server.redis.page = 1
        for key in "kj":
            server.redis.run(["SET", key, "v"])
        for path, body in EXCHANGES:
            right = one_answer(server, path, body)
            server.plan(fault, times=None)
            try:
                with Client(server) as client:
                    if fault.fits is wire.on_a_kept_connection:
                        assert client.ask("PING") == {"result": "PONG"}
                    client.send(path, body)
                    seen = client.receive()
            except ConnectionError:
                seen = b"", "reset"
            struck = server.struck[fault.name] > 0 or fault.stage is Stage.LISTENING
            server.clear()
            assert one_answer(server, path, body) == right, fault
            # Pieces that come at intervals are the same bytes in the end.
            if struck and (seen != (right, "silence") or fault is wire.answer_in_pieces):
                return True
        return False


@pytest.mark.slow
def test_each_fault_changes_what_comes_and_then_is_over() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    plain = [fault for fault in FAULTS if fault.plain]
    # At the same time, since most of it is listening to silence; each with a server of its own.
    with ThreadPoolExecutor(16) as pool:
        struck = dict(zip(plain, pool.map(strikes, plain)))
    assert [fault for fault, yes in struck.items() if not yes] == []


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("reset_when_accepted", "reset"),
        ("reset_before_the_request_is_read", "reset"),
        ("reset_after_the_command_is_run", "reset"),
        ("reset_in_the_middle_of_the_answer", "reset"),
        ("kept_connection_reset_after_each_answer", "reset"),
        ("closed_when_accepted", "closed"),
        ("closed_without_an_answer", "closed"),
        ("body_truncated", "closed"),
        ("kept_connection_closed_after_each_answer", "closed"),
        ("never_answers", "silence"),
        ("never_reads", "silence"),
        ("silence_after_half_an_answer", "silence"),
        ("endless_chunked_body", "more"),
        ("endless_body", "more"),
        ("endless_100_continue", "more"),
    ],
)
def test_how_a_connection_ends(server: FaultServer, name: str, ending: str) -> None:
    server.plan(BY_NAME[name])
    try:
        client = Client(server)
    except ConnectionResetError:
        # It may come before `connect` has returned.
        assert (name, ending) == ("reset_when_accepted", "reset")
        return
    with client:
        if BY_NAME[name].stage is Stage.ANSWERING:
            client.send("/", ["PING"])
        assert client.receive(limit=10_000)[1] == ending


def test_refuses_connections_until_the_plan_is_cleared(server: FaultServer) -> None:
    with Client(server) as client:
        assert client.ask("PING") == {"result": "PONG"}
        server.plan(wire.refused)
        assert client.receive() == (b"", "closed")
    with pytest.raises(ConnectionRefusedError):
        Client(server)
    server.clear()
    with Client(server) as client:
        assert client.ask("PING") == {"result": "PONG"}


def test_swallows_kept_connections_only(server: FaultServer) -> None:
    server.plan(wire.kept_connection_swallowed, times=None)
    for _ in range(2):
        with Client(server) as client:
            assert client.ask("PING") == {"result": "PONG"}
            client.send("/", ["PING"])
            assert client.receive() == (b"", "silence")


def test_strikes_as_often_as_planned_and_not_before(server: FaultServer) -> None:
    server.plan(BY_NAME["html_with_502"], times=2, after=1)
    seen = [one_answer(server) for _ in range(4)]
    assert [b"502" in answer for answer in seen] == [False, True, True, False]
    assert server.struck == {"html_with_502": 2}


def test_runs_the_command_or_not_as_the_name_says(server: FaultServer) -> None:
    for name, runs in (
        ("reset_before_the_request_is_read", False),
        ("reset_after_the_request_is_read", False),
        ("reset_after_the_command_is_run", True),
        ("html_with_502", False),
    ):
        server.redis.texts.clear()
        server.plan(BY_NAME[name])
        a_strike(server, ["SET", "k", "v"])
        assert ("k" in server.redis.texts) is runs, name


@pytest.mark.parametrize(
    ("fault", "least"), [(wire.headers_trickled, b"HTTP/"), (wire.body_trickled, b'\r\n\r\n{"res')]
)
def test_trickles_at_its_pace(server: FaultServer, fault: Fault, least: bytes) -> None:
    paced = threading.Semaphore(0)

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout == 0.5
            paced.release()
            return False

    server.closing, server.pace = Closing(), 0.5
    server.plan(fault)
    with Client(server) as client:
        client.send("/", ["PING"])
        assert least in client.receive()[0]
        for _ in range(5):
            assert paced.acquire(timeout=10)


def test_a_bomb_is_small_until_it_is_opened(server: FaultServer) -> None:
    server.plan(wire.gzip_bomb)
    bomb = one_answer(server).partition(b"\r\n\r\n")[2]
    assert len(bomb) < 2**21
    assert len(gzip.decompress(bomb[: len(bomb) // 64])) == 2**24


def test_redirects_lead_to_where_the_test_can_count(server: FaultServer) -> None:
    with FaultServer() as elsewhere:
        server.elsewhere = elsewhere.url
        server.plan(BY_NAME["redirect_307_to_another_host"])
        assert f"\r\nLocation: {elsewhere.url}\r\n".encode() in one_answer(server)


def test_speaks_tls(tls_server: FaultServer, certificates: Certificates) -> None:
    with Client(tls_server) as client:
        client.secure(certificates)
        assert client.ask("PING") == {"result": "PONG"}
        assert client.ask("PING") == {"result": "PONG"}
        tls_server.plan(wire.reset_in_the_middle_of_the_answer)
        client.send("/", ["PING"])
        # `ssl` makes an end of file of a reset (SSL_read_ex says no more than that it failed).
        assert client.receive()[1] in ("reset", "closed")


# Before 3.11, ssl leaves the socket of a peer that is gone already to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (wire.certificate_of_another_host, "Hostname mismatch"),
        (wire.certificate_of_an_unknown_authority, "unable to get local issuer"),
        (wire.certificate_that_has_expired, "has expired"),
        (wire.plain_http_on_the_tls_port, "WRONG_VERSION_NUMBER|RECORD_LAYER"),
        (wire.handshake_that_never_ends, "timed out"),
        (wire.closed_when_accepted, "EOF|reset"),
        (wire.reset_when_accepted, "reset"),
    ],
    ids=repr,
)
def test_handshakes_fail_as_told(
    tls_server: FaultServer, certificates: Certificates, fault: Fault, complaint: str
) -> None:
    tls_server.plan(fault)
    try:
        client = Client(tls_server)
    except ConnectionResetError:
        # It may come before `connect` has returned.
        assert fault is wire.reset_when_accepted
        return
    with client:
        client.sock.settimeout(A_MOMENT)
        with pytest.raises(OSError, match=complaint):
            client.secure(certificates)
    with Client(tls_server) as client:
        client.secure(certificates)
        assert client.ask("PING") == {"result": "PONG"}


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.kind is Kind.SILENT and f.plain], ids=repr
)
def test_an_endpoint_that_goes_ends_what_hangs(server: FaultServer, fault: Fault) -> None:
    server.plan(fault, times=None)
    with Client(server) as client:
        client.send("/", ["PING"])
        client.receive(limit=10)
        server.plan(BY_NAME["refused"], times=None)
        assert not server._threads


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.kind is Kind.SILENT], ids=repr)
def test_close_ends_what_hangs(certificates: Certificates, fault: Fault) -> None:
    # What tests before this one left open may be closed while it runs.
    gc.collect()
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    with FaultServer(certificates if not fault.plain else None) as server:
        server.plan(fault, times=None)
        with Client(server) as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send("/", ["PING"])
            client.receive(limit=10_000)
            server.close()
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) <= files


def test_the_port_of_an_endpoint_that_is_gone_is_not_taken_by_others(server: FaultServer) -> None:
    server.plan(BY_NAME["refused"], times=None)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server._port))


def test_a_mistake_of_its_own_is_not_kept_quiet() -> None:
    def mistaken(connection: Connection) -> None:
        raise ZeroDivisionError

    server = FaultServer()
    server.plan(replace(wire.never_answers, act=mistaken))
    assert a_strike(server) == (b"", "closed")
    with pytest.raises(ZeroDivisionError):
        server.close()
