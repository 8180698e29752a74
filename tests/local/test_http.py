"""The HTTP half of the embedded endpoint: connections, framing, TLS."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.local.talk import DEADLINE, ask, connect, converse, raw, send
from tests.support.faults import Certificates
from upstash_state.local import LocalEndpoint, Usage


class TestConnections:
    def test_a_fault_of_its_own_is_a_500_and_logged(
        self,
        endpoint: LocalEndpoint,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            raise RuntimeError("on purpose")

        with monkeypatch.context() as patched:
            patched.setattr("upstash_state.local.redis.Backend.run", fail)
            answer = send(endpoint, ["PING"])
        assert (answer.status_code, answer.json()) == (500, {"error": "ERR internal error"})
        assert [record.name for record in caplog.records] == ["upstash_state.local.api"]
        assert ask(endpoint, "PING") == {"result": "PONG"}

    def test_a_connection_is_kept_whatever_the_answer(self, endpoint: LocalEndpoint) -> None:
        auth = f"Authorization: Bearer {endpoint.token}\r\n"
        many = b"".join(
            raw(method, body, auth)
            for method, body in [
                ("POST", b'["PING"]'),
                ("POST", b"garbage"),
                ("DELETE", b'["PING"]'),
                ("POST", b'["ECHO","the end"]'),
            ]
        )
        answers = converse(endpoint, many)
        assert answers.count(b"HTTP/1.1 ") == 4
        assert answers.endswith(b'{"result":"the end"}')

    def test_a_request_over_the_limit_leaves_the_connection_usable(self) -> None:
        with LocalEndpoint(max_request_bytes=100) as endpoint:
            auth = f"Authorization: Bearer {endpoint.token}\r\n"
            large = raw("POST", b"x" * 200_000, auth)
            answers = converse(endpoint, large + raw("POST", b'["PING"]', auth))
        assert answers.count(b"ERR max request size exceeded") == 1
        assert answers.endswith(b'{"result":"PONG"}')

    def test_it_is_closed_on_request(self, endpoint: LocalEndpoint) -> None:
        with connect(endpoint) as connection:
            connection.sendall(raw("POST", b'["PING"]', "Connection: close\r\n"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"\r\nConnection: close\r\n" in answer

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET /ping HTTP/9.9\r\n\r\n", b"505"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
            # RFC 9112, section 5.1. What follows such a line would count as the next request.
            (b'POST / HTTP/1.1\r\nHost : x\r\nContent-Length: 8\r\n\r\n["PING"]', b"400"),
            (b'POST / HTTP/1.1\r\nnonsense\r\nContent-Length: 8\r\n\r\n["PING"]', b"400"),
        ],
    )
    def test_an_invalid_request_is_answered_too(
        self, endpoint: LocalEndpoint, sent: bytes, status: bytes
    ) -> None:
        answer = converse(endpoint, sent)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b'\r\n\r\n{"error":"ERR ' in answer
        assert ask(endpoint, "PING") == {"result": "PONG"}

    def test_empty_lines_before_a_request_are_overlooked(self, endpoint: LocalEndpoint) -> None:
        """RFC 9112, section 2.2: some clients send them after a body."""
        request = raw("POST", b'["PING"]', f"Authorization: Bearer {endpoint.token}\r\n")
        answers = converse(endpoint, b"\r\n" + request + b"\r\n" + request)
        assert answers.count(b'{"result":"PONG"}') == 2

    def test_half_a_request_is_not_run(self, endpoint: LocalEndpoint) -> None:
        auth = f"Authorization: Bearer {endpoint.token}\r\n"
        assert converse(endpoint, raw("POST", b'["SET","k","v"]      ', auth)[:-3]) == b""
        assert ask(endpoint, "EXISTS", "k") == {"result": 0}

    def test_usage_counts_chunks_as_they_were_sent(self, endpoint: LocalEndpoint) -> None:
        sent = chunked(b'["EC', b'HO","x"]', headers=authorization(endpoint))
        received = converse(endpoint, sent)
        assert endpoint.usage() == Usage(1, 1, len(sent), len(received))

    def test_usage_is_what_went_over_the_wire(self, either_endpoint: LocalEndpoint) -> None:
        before = either_endpoint.usage()
        sent = raw(
            "POST",
            json.dumps([["SET", "k", "v"], ["BLPOP", "l", "0"], ["GET", "k"]]).encode(),
            f"Authorization: Bearer {either_endpoint.token}\r\n",
            "/pipeline",
        )
        received = converse(either_endpoint, sent)
        assert either_endpoint.usage() == Usage(
            before.requests + 1,
            before.commands + 2,
            before.bytes_received + len(sent),
            before.bytes_sent + len(received),
        )

    def test_many_at_once(self, either_endpoint: LocalEndpoint) -> None:
        def work(_: int) -> None:
            with requests.Session() as session:
                session.headers["Authorization"] = f"Bearer {either_endpoint.token}"
                for _ in range(20):
                    session.post(either_endpoint.url, data=b'["INCR","n"]', timeout=DEADLINE)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        assert ask(either_endpoint, "GET", "n") == {"result": "320"}
        assert either_endpoint.usage().requests == 321

    def test_close_leaves_nothing_behind(self) -> None:
        threads = set(threading.enumerate())
        endpoint = LocalEndpoint()
        endpoint.start()
        endpoint.start()
        with connect(endpoint) as kept:
            kept.sendall(raw("POST", b"", ""))
            assert kept.recv(65536).startswith(b"HTTP/1.1 401")
            endpoint.close()
            endpoint.close()
            assert kept.recv(1) == b""
        assert set(threading.enumerate()) == threads
        with pytest.raises(ConnectionRefusedError):
            connect(endpoint)

    def test_it_comes_back_on_the_same_port_with_the_same_data(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        url = either_endpoint.url
        ask(either_endpoint, "SET", "k", "v")
        either_endpoint.close()
        with either_endpoint:
            assert either_endpoint.url == url
            assert ask(either_endpoint, "GET", "k") == {"result": "v"}

    def test_it_has_no_address_before_it_is_started(self) -> None:
        with pytest.raises(RuntimeError, match="before it is started"):
            _ = LocalEndpoint().url
        assert LocalEndpoint(port=8080).url == "http://127.0.0.1:8080"
        assert LocalEndpoint(port=8080, host="::").url == "http://[::1]:8080"

    def test_endpoints_share_no_data(self, endpoint: LocalEndpoint) -> None:
        ask(endpoint, "SET", "k", "v")
        with LocalEndpoint() as other:
            assert ask(other, "EXISTS", "k") == {"result": 0}

    def test_ipv6(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6 loopback address")
        with LocalEndpoint(host="::1") as endpoint:
            assert endpoint.url.startswith("http://[::1]:")
            assert ask(endpoint, "PING") == {"result": "PONG"}


def authorization(endpoint: LocalEndpoint) -> str:
    return f"Authorization: Bearer {endpoint.token}\r\n"


def chunked(*pieces: bytes, headers: str = "", end: bytes = b"0\r\n\r\n") -> bytes:
    """A POST request with a body in chunks."""
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return head.encode() + b"".join(chunks) + end


class TestFraming:
    @pytest.mark.parametrize(
        "end",
        [b"0\r\n\r\n", b"0;last\r\nTrailer: ignored\r\nAnother: one\r\n\r\n", b"000\r\n\r\n"],
    )
    def test_a_body_may_come_in_chunks(self, endpoint: LocalEndpoint, end: bytes) -> None:
        headers = authorization(endpoint)
        first = chunked(b'["ECHO",', b'"one"]', headers=headers, end=end)
        answers = converse(endpoint, first + raw("POST", b'["ECHO","two"]', headers))
        assert [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 ")] == [
            b"",
            b'{"result":"one"}',
            b'{"result":"two"}',
        ]

    def test_chunks_over_the_limit_leave_the_connection_usable(self) -> None:
        with LocalEndpoint(max_request_bytes=100) as endpoint:
            headers = authorization(endpoint)
            large = chunked(b"x" * 100_000, b"x", headers=headers)
            together = chunked(b"x" * 60, b"x" * 60, headers=headers)
            answers = converse(endpoint, large + together + raw("POST", b'["PING"]', headers))
        for length in (100_001, 120):
            text = f"ERR max request size exceeded. Limit: 100 bytes, Actual: {length} bytes"
            assert text.encode() in answers
        assert answers.endswith(b'{"result":"PONG"}')

    @pytest.mark.parametrize("length", ["x", "-1", "+1", "0x1", "", "1" * 9])
    def test_a_chunk_without_a_length_is_refused(
        self, endpoint: LocalEndpoint, length: str
    ) -> None:
        sent = chunked(headers=authorization(endpoint), end=f"{length}\r\n[\r\n0\r\n\r\n".encode())
        assert converse(endpoint, sent).startswith(b"HTTP/1.1 400 ")

    def test_chunks_that_end_early_are_not_executed(self, endpoint: LocalEndpoint) -> None:
        sent = chunked(b'["SET","k","v"]', headers=authorization(endpoint), end=b"")
        assert converse(endpoint, sent) == b""
        assert ask(endpoint, "EXISTS", "k") == {"result": 0}

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ("Content-Length: 8\r\nContent-Length: 8\r\n", b"200"),
            ("Content-Length: 8, 8\r\n", b"200"),
            ("Content-Length: 8\r\nContent-Length: 9\r\n", b"400"),
            ("Content-Length: 8, 9\r\n", b"400"),
            ("Content-Length: 8\r\nTransfer-Encoding: chunked\r\n", b"400"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"400"),
        ],
    )
    def test_a_body_has_one_end(self, endpoint: LocalEndpoint, headers: str, status: bytes) -> None:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\n{authorization(endpoint)}{headers}\r\n"
        answers = converse(endpoint, head.encode() + b'["PING"]')
        assert answers.startswith(b"HTTP/1.1 " + status)
        assert answers.count(b"HTTP/1.1 ") == 1

    @pytest.mark.parametrize("target", ["http://x:1/set/k/v", "HTTPS://x/set/k/v?EX=100"])
    def test_a_target_may_be_absolute(self, endpoint: LocalEndpoint, target: str) -> None:
        sent = raw("POST", b"", authorization(endpoint), target)
        assert converse(endpoint, sent).endswith(b'{"result":"OK"}')
        assert ask(endpoint, "GET", "k") == {"result": "v"}

    def test_an_absolute_target_may_have_no_path(self, endpoint: LocalEndpoint) -> None:
        sent = raw("POST", b'["PING"]', authorization(endpoint), "http://x")
        assert converse(endpoint, sent).endswith(b'{"result":"PONG"}')

    @pytest.mark.parametrize("path", ["/pipeline/", "/multi-exec/"])
    def test_a_slash_at_the_end_changes_nothing(self, endpoint: LocalEndpoint, path: str) -> None:
        assert send(endpoint, [["PING"]], path).json() == [{"result": "PONG"}]

    def test_http_1_0_keeps_a_connection_when_asked(self, endpoint: LocalEndpoint) -> None:
        def ping(connection: str) -> bytes:
            head = f"POST / HTTP/1.0\r\n{connection}{authorization(endpoint)}"
            return f'{head}Content-Length: 8\r\n\r\n["PING"]'.encode()

        keep = "Connection: keep-alive\r\n"
        answers = converse(endpoint, ping(keep) + ping("") + ping(""))
        assert answers.count(b'{"result":"PONG"}') == 2
        assert answers.count(b"\r\nConnection: keep-alive\r\n") == 1
        assert answers.count(b"\r\nConnection: close\r\n") == 1


FOREIGN = "ERR only pages and names of this machine, such as http://localhost:3000, may ask"


class TestBrowsers:
    """The Fetch standard's CORS protocol, since Upstash recommends the read-only token for them."""

    @pytest.mark.parametrize(
        "origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:1"]
    )
    def test_a_preflight_is_answered_without_a_token(
        self, endpoint: LocalEndpoint, origin: str
    ) -> None:
        asked = "authorization, upstash-telemetry-sdk"
        answer = requests.options(
            endpoint.url,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": asked,
            },
            timeout=DEADLINE,
        )
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Allow-Headers"] == asked
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert endpoint.usage().commands == 0

    @pytest.mark.parametrize("token", ["token", "read_only_token", "wrong"])
    def test_a_page_of_this_machine_may_read_answers(
        self, endpoint: LocalEndpoint, token: str
    ) -> None:
        answer = send(
            endpoint,
            ["GET", "k"],
            authorization=f"Bearer {getattr(endpoint, token, token)}",
            origin="http://shop.localhost:3000",
            sec_fetch_site="cross-site",
        )
        assert answer.status_code == (401 if token == "wrong" else 200)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Expose-Headers"] == "Upstash-Sync-Token"

    def test_others_are_not_bothered(self, endpoint: LocalEndpoint) -> None:
        assert "Access-Control-Allow-Origin" not in send(endpoint, ["PING"]).headers

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://shop.example"},
            {"origin": "http://localhost.example"},
            {"origin": "http://127.0.0.1.example:8079"},
            {"origin": "http://localhost:80@shop.example"},
            {"origin": "http://[::1"},
            {"origin": "null"},
            {"origin": ""},
            # What an image, a link or a form of another page sends.
            {"sec_fetch_site": "cross-site"},
            # A page whose own name leads to this machine: DNS rebinding.
            {"host": "shop.example:8079"},
            {"host": "shop.example:8079", "sec_fetch_site": "same-origin"},
            {"host": "shop.example", "origin": "http://localhost:3000"},
            {"host": "localhost.shop.example"},
            {"host": "[::1"},
            {"host": ""},
            {"host": "0.0.0.0:8079"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/"), ("GET", "/set/k/v?_token="), ("GET", "/subscribe/c")]
    )
    def test_pages_of_other_sites_are_refused(
        self, endpoint: LocalEndpoint, headers: dict[str, str], method: str, path: str
    ) -> None:
        if path.endswith("_token="):
            path += endpoint.token
        body = ["SET", "k", "v"] if method == "POST" else None
        answer = send(endpoint, body, path, method, **headers)
        assert (answer.status_code, answer.json()) == (403, {"error": FOREIGN})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert ask(endpoint, "EXISTS", "k") == {"result": 0}

    def test_so_is_their_preflight(self, endpoint: LocalEndpoint) -> None:
        headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        answer = requests.options(endpoint.url, headers=headers, timeout=DEADLINE)
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "localhost:8079"},
            {"host": "LOCALHOST"},
            {"host": "shop.localhost:1"},
            {"host": "127.0.0.2"},
            {"host": "[::1]:8079"},
            {"sec_fetch_site": "none"},
            {"sec_fetch_site": "same-site"},
        ],
    )
    def test_what_comes_from_this_machine_is_answered(
        self, endpoint: LocalEndpoint, headers: dict[str, str]
    ) -> None:
        assert send(endpoint, ["PING"], **headers).json() == {"result": "PONG"}

    def test_http_1_0_names_no_host(self, endpoint: LocalEndpoint) -> None:
        request = f'POST / HTTP/1.0\r\n{authorization(endpoint)}Content-Length: 8\r\n\r\n["PING"]'
        assert converse(endpoint, request.encode()).endswith(b'{"result":"PONG"}')

    def test_on_an_address_for_others_pages_are_answered_as_upstash_does(self) -> None:
        with LocalEndpoint(host="0.0.0.0") as endpoint:
            answer = send(endpoint, ["PING"], origin="https://shop.example", host="redis.example")
        assert answer.json() == {"result": "PONG"}
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


MEMORY = """
import http.client, json, sys, threading
from upstash_state.local import LocalEndpoint

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def ask(connection, *command):
    headers = {"Authorization": "Bearer " + endpoint.token}
    connection.request("POST", "/", json.dumps(command), headers)
    answer = connection.getresponse()
    while answer.read(65_536):
        pass

def read_much(connection):
    for _ in range(5):
        ask(connection, "MGET", *["k"] * 4)

with LocalEndpoint(redis_url=sys.argv[1]) as endpoint:
    port = int(endpoint.url.rpartition(":")[2])
    connections = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(12)]
    ask(connections[0], "SET", "k", "ü" * 1_000_000)
    before = resident()
    threads = [threading.Thread(target=read_much, args=(one,)) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep none")
def test_memory_goes_back_after_large_answers(redis_url: str) -> None:
    """12 connections, each kept, with answers of 8 MB: 60 to 90 MB more; if kept, 240 to 290."""
    process = subprocess.run(
        [sys.executable, "-c", MEMORY, redis_url],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")},
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) < 170_000_000


class TestTls:
    def test_https_with_a_silent_client_and_one_that_stays(self, tmp_path: Path) -> None:
        certificates = Certificates(tmp_path)
        threads = set(threading.enumerate())
        with LocalEndpoint(tls=certificates.right) as endpoint, requests.Session() as session:
            assert endpoint.url.startswith("https://127.0.0.1:")
            port = int(endpoint.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as silent:
                answer = session.post(
                    endpoint.url,
                    data=b'["PING"]',
                    headers={"Authorization": f"Bearer {endpoint.token}"},
                    verify=str(certificates.bundle),
                    timeout=DEADLINE,
                )
                endpoint.close()
                assert silent.recv(1) == b""
        assert answer.json() == {"result": "PONG"}
        assert set(threading.enumerate()) == threads

    def test_a_client_that_does_not_speak_it_makes_no_noise(
        self,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with LocalEndpoint(tls=Certificates(tmp_path).right) as endpoint:
            port = int(endpoint.url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert b"HTTP/" not in b"".join(iter(lambda: plain.recv(65536), b""))
        assert capfd.readouterr() == ("", "")
        assert not caplog.records
