"""The embedded endpoint, over fakeredis and over a real Redis server."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
import upstash_redis
from upstash_redis.errors import UpstashError as SdkError

from tests.support.faults import Certificates
from tests.support.servers import free_port, needs_redis_server, redis_server
from upstash_state.errors import SettingsError, UnavailableError
from upstash_state.local import LocalEndpoint, Usage, serve

RECORDING = Path(__file__).with_name("serverless-redis-http.json")
NOT_UTF8 = b"\x00\xff\xfe ok \xc3\x28"
DEADLINE = 10.0


def send(
    endpoint: LocalEndpoint,
    body: object = None,
    path: str = "/",
    method: str = "POST",
    **headers: str,
) -> requests.Response:
    """One request. Anything but bytes and None goes as JSON; `a_b` becomes the header `a-b`."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers.setdefault("authorization", f"Bearer {endpoint.token}")
    return requests.request(
        method, endpoint.url + path, data=body, headers=headers, timeout=DEADLINE
    )


def ask(endpoint: LocalEndpoint, *command: object, **headers: str) -> Any:
    """What one command answers, parsed."""
    return send(endpoint, list(command), **headers).json()


def sdk(endpoint: LocalEndpoint, token: str | None = None) -> upstash_redis.Redis:
    return upstash_redis.Redis(
        url=endpoint.url, token=token or endpoint.token, rest_retries=0, allow_telemetry=True
    )


def connect(endpoint: LocalEndpoint) -> socket.socket:
    host, _, port = endpoint.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def converse(endpoint: LocalEndpoint, sent: bytes) -> bytes:
    """All that comes back for raw bytes on a connection of their own, until it ends."""
    with connect(endpoint) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


class TestAnswers:
    def test_every_kind_of_value_comes_back_as_itself(self, either_endpoint: LocalEndpoint) -> None:
        text = 'Jürgen 🍕 "quoted" \\ \x00\x1f\u2028\n'
        assert ask(either_endpoint, "SET", "k", text) == {"result": "OK"}
        assert ask(either_endpoint, "GET", "k") == {"result": text}
        assert ask(either_endpoint, "GET", "none") == {"result": None}
        assert ask(either_endpoint, "EXISTS", "k", "none") == {"result": 1}
        assert ask(either_endpoint, "MGET", "k", "none") == {"result": [text, None]}
        assert ask(either_endpoint, "SCAN", "0") == {"result": ["0", ["k"]]}

    def test_nested_arrays_stay_nested(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "XADD", "s", "1-1", "field", "value")
        assert ask(either_endpoint, "XRANGE", "s", "-", "+") == {
            "result": [["1-1", ["field", "value"]]]
        }

    def test_a_failed_command_is_a_400_in_the_words_of_redis(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        ask(either_endpoint, "HSET", "hash", "field", "value")
        for command, error in [
            (["GET", "hash"], "WRONGTYPE Operation against a key holding the wrong kind of value"),
            (["GET"], "ERR wrong number of arguments for 'get' command"),
            (["SET", "k", "v", "FOO"], "ERR syntax error"),
        ]:
            answer = send(either_endpoint, command)
            assert (answer.status_code, answer.json()) == (400, {"error": error})

    def test_an_unknown_command_is_named(self, either_endpoint: LocalEndpoint) -> None:
        answer = send(either_endpoint, ["NOSUCHCOMMAND"])
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error.startswith("ERR unknown command ")
        assert "nosuchcommand" in error.lower()

    def test_mget_gives_null_for_a_key_of_another_type(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        ask(either_endpoint, "HSET", "hash", "field", "value")
        assert ask(either_endpoint, "MGET", "hash") == {"result": [None]}

    def test_every_answer_is_json_and_carries_a_growing_sync_token(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        answers = [
            send(either_endpoint, ["PING"]),
            send(either_endpoint, ["GET"]),
            send(either_endpoint, b"garbage"),
            send(either_endpoint, ["PING"], authorization="Bearer wrong"),
            send(either_endpoint, [["PING"]], "/pipeline", Upstash_Sync_Token="of another server"),
            send(either_endpoint, None, method="DELETE"),
            *(send(either_endpoint, ["PING"]) for _ in range(10)),
        ]
        tokens = [answer.headers["Upstash-Sync-Token"] for answer in answers]
        assert tokens == sorted(set(tokens))
        assert {answer.headers["Content-Type"] for answer in answers} == {"application/json"}

    def test_it_answers_as_a_recorded_server_does(self, either_endpoint: LocalEndpoint) -> None:
        different = set()
        for exchange in json.loads(RECORDING.read_text())["exchanges"]:
            request, recorded = exchange["request"], exchange["response"]
            headers = dict(request["headers"])
            if headers.get("Authorization") == "Bearer REDACTED":
                headers["Authorization"] = f"Bearer {either_endpoint.token}"
            body = request["body"]
            answer = requests.request(
                request["method"],
                either_endpoint.url + request["path"],
                data=(body if isinstance(body, str) else json.dumps(body)).encode(),
                headers=headers,
                timeout=DEADLINE,
            )
            expected = recorded["body"]
            if request["path"] in ("/", "/pipeline", "/multi-exec") and expected:
                given, expected = _unordered(answer.json()), _unordered(json.loads(expected))
            else:
                given = answer.text
            if (answer.status_code, given) != (recorded["status"], expected):
                different.add(exchange["title"])
        documented = {
            "wrong token",  # WRONGPASS is documented, "Invalid token" is not.
            "wrong token on pipeline",
            "no token",  # 401 is documented, 400 is not.
            "malformed body",  # 400 is documented, 500 is not.
            "empty array",
            "not an array",
            "empty pipeline",
            "base64 encoded pipeline",  # OK is not encoded.
            "method not allowed",  # 405 is documented, 404 is not.
            "unknown path",  # It is a command in the path.
        }
        if "fakeredis" in either_endpoint.backend:
            documented |= {"unknown command", "bad expiry"}  # fakeredis words these differently.
        assert different == documented


def _unordered(parsed: Any) -> Any:
    """A SCAN's or KEYS' keys come in any order."""
    if isinstance(parsed, dict):
        return {name: _unordered(value) for name, value in parsed.items()}
    if isinstance(parsed, list):
        return sorted(map(_unordered, parsed), key=repr)
    return parsed


class TestEncodings:
    def test_bytes_that_are_no_utf8_are_replaced(self, either_endpoint: LocalEndpoint) -> None:
        send(either_endpoint, NOT_UTF8, "/set/k")
        assert ask(either_endpoint, "GET", "k") == {"result": NOT_UTF8.decode("utf-8", "replace")}

    def test_base64_carries_any_bytes(self, either_endpoint: LocalEndpoint) -> None:
        send(either_endpoint, NOT_UTF8, "/set/k")
        given = ask(either_endpoint, "GET", "k", Upstash_Encoding="base64")["result"]
        assert base64.b64decode(given) == NOT_UTF8

    def test_base64_is_for_every_string_but_ok_and_errors(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        pipeline = [
            ["SET", "k", "ü"],
            ["MGET", "k", "none"],
            ["INCR", "k"],
            ["STRLEN", "k"],
            ["SCAN", "0"],
            ["PING"],
        ]
        answer = send(either_endpoint, pipeline, "/pipeline", Upstash_Encoding="base64")
        assert answer.json() == [
            {"result": "OK"},
            {"result": ["w7w=", None]},
            {"error": "ERR value is not an integer or out of range"},
            {"result": 2},
            {"result": ["MA==", ["aw=="]]},
            {"result": "UE9ORw=="},
        ]

    def test_resp2_is_what_a_redis_server_would_send(self, either_endpoint: LocalEndpoint) -> None:
        pipeline = [["SET", "k", "v\r\n"], ["MGET", "k", "none"], ["STRLEN", "k"], ["INCR", "k"]]
        answer = send(either_endpoint, pipeline, "/pipeline", Upstash_Response_Format="resp2")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.content == (
            b"+OK\r\n*2\r\n$3\r\nv\r\n\r\n$-1\r\n:3\r\n"
            b"-ERR value is not an integer or out of range\r\n"
        )

    def test_transactions_know_no_resp2(self, endpoint: LocalEndpoint) -> None:
        answer = send(endpoint, [["PING"]], "/multi-exec", Upstash_Response_Format="resp2")
        assert answer.json() == [{"result": "PONG"}]

    @pytest.mark.parametrize(
        "headers",
        [
            {"Upstash_Response_Format": "xml"},
            {"Upstash_Response_Format": "resp2", "Upstash_Encoding": "base64"},
        ],
    )
    def test_other_formats_are_refused(
        self, endpoint: LocalEndpoint, headers: dict[str, str]
    ) -> None:
        assert send(endpoint, ["PING"], **headers).status_code == 400


class TestRequests:
    @pytest.mark.parametrize(
        ("method", "path", "body", "stored"),
        [
            ("GET", "/set/k/v", None, "v"),
            ("GET", "/SET/k/v/EX/100", None, "v"),
            ("GET", "/set/k/a%2Fb%3Fc%20%F0%9F%8D%95%25", None, "a/b?c 🍕%"),
            ("GET", "/set/k/a+b", None, "a+b"),
            ("GET", "/set/k/", None, ""),
            ("HEAD", "/set/k/v", None, "v"),
            ("POST", "/set/k", b'{"raw": "body"}', '{"raw": "body"}'),
            ("PUT", "/set/k?EX=100&NX", b"v", "v"),
            ("POST", "/set/k?_token=ignored&EX=100", b"v", "v"),
        ],
    )
    def test_a_command_may_be_in_the_path(
        self, either_endpoint: LocalEndpoint, method: str, path: str, body: bytes, stored: str
    ) -> None:
        answer = send(either_endpoint, body, path, method)
        assert answer.status_code == 200
        assert answer.text == ("" if method == "HEAD" else '{"result":"OK"}')
        assert ask(either_endpoint, "GET", "k") == {"result": stored}
        if "EX" in path:
            assert ask(either_endpoint, "TTL", "k")["result"] in (99, 100)

    def test_numbers_and_booleans_are_taken_as_written(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        send(either_endpoint, b'["MSET","i",1000000,"f",1.50,"e",1e6,"t",true,"f2",false]')
        assert ask(either_endpoint, "MGET", "i", "f", "e", "t", "f2") == {
            "result": ["1000000", "1.50", "1e6", "true", "false"]
        }

    def test_what_utf8_cannot_carry_is_replaced(self, either_endpoint: LocalEndpoint) -> None:
        send(either_endpoint, b'["SET","k","\\ud83d \xff"]')
        assert ask(either_endpoint, "GET", "k") == {"result": "\ufffd \ufffd"}

    @pytest.mark.parametrize(
        ("path", "body", "error"),
        [
            ("/", b"", "ERR failed to parse command"),
            ("/", b'["GET",', "ERR failed to parse command"),
            ("/", b'{"a": 1}', "ERR failed to parse command"),
            ("/", b'"PING"', "ERR failed to parse command"),
            ("/", b'["SET","k",null]', "ERR failed to parse command"),
            ("/", b'["SET","k",["nested"]]', "ERR failed to parse command"),
            ("/", b'["SET","k",NaN]', "ERR failed to parse command"),
            ("/", b"[" * 200_000, "ERR failed to parse command"),
            ("/", b"[]", "ERR empty command"),
            ("/pipeline", b"[]", "ERR empty pipeline request"),
            ("/pipeline", b'["PING"]', "ERR failed to parse pipeline request"),
            ("/pipeline", b"nonsense", "ERR failed to parse pipeline request"),
            ("/multi-exec", b"[]", "ERR empty multi-exec request"),
            ("/multi-exec", b"{}", "ERR failed to parse multi-exec request"),
        ],
    )
    def test_what_cannot_be_understood_is_a_400(
        self, endpoint: LocalEndpoint, path: str, body: bytes, error: str
    ) -> None:
        answer = send(endpoint, body, path)
        assert (answer.status_code, answer.json()) == (400, {"error": error})

    @pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "BREW"])
    def test_other_methods_are_a_405(self, endpoint: LocalEndpoint, method: str) -> None:
        answer = send(endpoint, ["FLUSHALL"], method=method)
        assert answer.status_code == 405
        assert "error" in answer.json()

    def test_a_pipeline_runs_in_order_and_goes_on_after_an_error(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        pipeline = [["SET", "k", "v"], ["INCR", "k"], [], ["BLPOP", "l", "0"], ["GET", "k"]]
        answer = send(either_endpoint, pipeline, "/pipeline")
        assert answer.status_code == 200
        assert answer.json() == [
            {"result": "OK"},
            {"error": "ERR value is not an integer or out of range"},
            {"error": "ERR empty command"},
            {"error": _unavailable("BLPOP")},
            {"result": "v"},
        ]


def _unavailable(name: str) -> str:
    return (
        f"ERR Command is not available: '{name}'. "
        "See https://upstash.com/docs/redis/features/restapi for details"
    )


class TestTransactions:
    def test_a_command_that_fails_does_not_stop_the_others(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        answer = send(
            either_endpoint, [["SET", "k", "v"], ["INCR", "k"], ["GET", "k"]], "/multi-exec"
        )
        assert (answer.status_code, answer.json()) == (
            200,
            [
                {"result": "OK"},
                {"error": "ERR value is not an integer or out of range"},
                {"result": "v"},
            ],
        )

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (["GET"], "ERR wrong number of arguments for 'get' command"),
            (["BLPOP", "l", "0"], _unavailable("BLPOP")),
            (["EXEC"], _unavailable("EXEC")),
            ([], "ERR empty command"),
        ],
    )
    def test_one_that_cannot_be_run_discards_the_whole(
        self, either_endpoint: LocalEndpoint, bad: list[str], error: str
    ) -> None:
        answer = send(either_endpoint, [["SET", "k", "v"], bad, ["SET", "k2", "v"]], "/multi-exec")
        assert (answer.status_code, answer.json()) == (400, {"error": error})
        assert ask(either_endpoint, "EXISTS", "k", "k2") == {"result": 0}
        assert ask(either_endpoint, "PING") == {"result": "PONG"}

    def test_nobody_gets_in_between(self, either_endpoint: LocalEndpoint) -> None:
        transaction = [["INCR", "a"]] + [["GET", "pad"]] * 50 + [["INCR", "b"], ["MGET", "a", "b"]]

        def run(_: int) -> list[str]:
            values: list[str] = send(either_endpoint, transaction, "/multi-exec").json()[-1][
                "result"
            ]
            return values

        with ThreadPoolExecutor(8) as pool:
            pairs = list(pool.map(run, range(40)))
        assert all(a == b for a, b in pairs)
        assert sorted(int(a) for a, _ in pairs) == list(range(1, 41))


class TestTokens:
    def test_both_forms_are_accepted(self, endpoint: LocalEndpoint) -> None:
        in_query = f"/ping?_token={endpoint.token}"
        assert requests.get(endpoint.url + in_query, timeout=DEADLINE).json() == {"result": "PONG"}
        assert ask(endpoint, "PING", authorization=f"bearer  {endpoint.token}") == {
            "result": "PONG"
        }

    @pytest.mark.parametrize("header", ["Bearer wrong", "Bearer ", "Basic abc", "", "Bearer ü"])
    def test_a_wrong_token_is_a_401(self, either_endpoint: LocalEndpoint, header: str) -> None:
        for path, body in [("/", ["SET", "k", "v"]), ("/pipeline", [["SET", "k", "v"]])]:
            answer = send(either_endpoint, body, path, authorization=header)
            assert answer.status_code == 401
            assert answer.json() == {"error": "WRONGPASS invalid or missing auth token"}
        assert ask(either_endpoint, "EXISTS", "k") == {"result": 0}

    def test_the_tcp_password_is_no_token(self, endpoint: LocalEndpoint) -> None:
        answer = requests.get(f"{endpoint.url}/ping?_token=secret", timeout=DEADLINE)
        assert answer.status_code == 401

    @pytest.mark.parametrize("command", ["GET k", "MGET k", "TTL k", "EXISTS k", "PING", "DBSIZE"])
    def test_the_read_only_token_reads(self, either_endpoint: LocalEndpoint, command: str) -> None:
        read_only = f"Bearer {either_endpoint.read_only_token}"
        assert "result" in ask(either_endpoint, *command.split(), authorization=read_only)

    @pytest.mark.parametrize(
        "command", ["SET k v", "del k", "SCAN 0", "KEYS *", "FLUSHALL", "EVAL s 0", "GETDEL k"]
    )
    def test_the_read_only_token_neither_writes_nor_scans(
        self, either_endpoint: LocalEndpoint, command: str
    ) -> None:
        ask(either_endpoint, "SET", "k", "before")
        read_only = f"Bearer {either_endpoint.read_only_token}"
        words = command.split()
        error = (
            f"NOPERM this user has no permissions to run the '{words[0].lower()}' command "
            "or its subcommand"
        )
        answer = send(either_endpoint, words, authorization=read_only)
        assert (answer.status_code, answer.json()) == (400, {"error": error})
        pipeline = [words, ["GET", "k"]]
        assert send(either_endpoint, pipeline, "/pipeline", authorization=read_only).json() == [
            {"error": error},
            {"result": "before"},
        ]
        assert send(either_endpoint, pipeline, "/multi-exec", authorization=read_only).json() == {
            "error": error
        }
        assert ask(either_endpoint, "GET", "k") == {"result": "before"}

    def test_tokens_are_random_and_never_shown(self) -> None:
        first, second = LocalEndpoint(), LocalEndpoint()
        tokens = {first.token, first.read_only_token, second.token, second.read_only_token}
        assert len(tokens) == 4
        with first:
            shown = f"{first!r} {vars(first)!r}"
        assert not any(str(token) in shown for token in tokens)

    def test_a_token_that_no_header_can_hold_is_refused(self) -> None:
        with pytest.raises(SettingsError):
            LocalEndpoint(token="line\nbreak")


class TestLimits:
    def test_a_request_over_the_limit(self) -> None:
        with LocalEndpoint(max_request_bytes=1000) as endpoint:
            body = json.dumps(["ECHO", "x" * 2000]).encode()
            answer = send(endpoint, body)
            assert answer.status_code == 400
            sizes = f"Limit: 1000 bytes, Actual: {len(body)} bytes"
            assert answer.json() == {"error": f"ERR max request size exceeded. {sizes}"}
            fits = json.dumps(["ECHO", "x" * 988]).encode()
            assert len(fits) == 1000
            assert send(endpoint, fits).json() == {"result": "x" * 988}

    def test_an_answer_over_the_limit_fails_its_own_item_only(self) -> None:
        with LocalEndpoint(max_request_bytes=1000) as endpoint:
            for key in ("a", "b"):
                ask(endpoint, "SET", key, "x" * 501)
            commands = [["MGET", "a", "b"], ["MGET", "a"]]
            for path in ("/pipeline", "/multi-exec"):
                assert send(endpoint, commands, path).json() == [
                    {
                        "error": "ERR max request size exceeded. "
                        "Limit: 1000 bytes, Actual: 1002 bytes"
                    },
                    {"result": ["x" * 501]},
                ]

    @pytest.mark.parametrize(
        "command",
        [
            ["SET", "{}", "v"],
            ["GET", "{}"],
            ["MGET", "a", "{}"],
            ["DEL", "a", "{}"],
            ["MSET", "a", "1", "{}", "2"],
        ],
    )
    def test_keys_have_at_most_32_kilobytes(
        self, either_endpoint: LocalEndpoint, command: list[str]
    ) -> None:
        long = "k" * 32_768
        assert "result" in ask(either_endpoint, *(word.replace("{}", long) for word in command))
        answer = send(either_endpoint, [word.replace("{}", long + "k") for word in command])
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "ERR max key size exceeded. Limit: 32768 bytes, Actual: 32769 bytes"},
        )

    def test_values_are_no_keys(self, either_endpoint: LocalEndpoint) -> None:
        for command in [
            ["SET", "k", "v" * 40_000],
            ["MSET", "k", "v" * 40_000],
            ["ECHO", "v" * 40_000],
        ]:
            assert "result" in ask(either_endpoint, *command)

    @pytest.mark.parametrize(
        "command",
        [
            "SUBSCRIBE c",
            "psubscribe *",
            "MONITOR",
            "BLPOP l 0",
            "BZPOPMIN z 0",
            "XREAD BLOCK 0 STREAMS s $",
            "WAIT 1 0",
            "MULTI",
            "EXEC",
            "WATCH k",
            "SELECT 1",
            "AUTH secret",
            "HELLO 3",
            "QUIT",
            "RESET",
            "CLIENT REPLY OFF",
            "CONFIG SET requirepass x",
            "SHUTDOWN",
            "DEBUG SLEEP 100",
            "REPLICAOF localhost 1",
        ],
    )
    def test_what_needs_a_connection_or_an_operator_is_not_available(
        self, either_endpoint: LocalEndpoint, command: str
    ) -> None:
        words = command.split()
        answer = send(either_endpoint, words)
        assert answer.status_code == 400
        assert answer.json() == {"error": _unavailable(words[0].upper())}
        assert ask(either_endpoint, "PING") == {"result": "PONG"}

    @pytest.mark.parametrize("name", ["", "\n", "ü", "a\r\nb", "\x00", " PING", "\tBLPOP"])
    def test_odd_command_names_break_nothing(
        self, either_endpoint: LocalEndpoint, name: str
    ) -> None:
        assert ask(either_endpoint, name, "x")["error"].startswith("ERR unknown command")
        assert ask(either_endpoint, "PING") == {"result": "PONG"}


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
            _raw(method, body, auth)
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
            large = _raw("POST", b"x" * 200_000, auth)
            answers = converse(endpoint, large + _raw("POST", b'["PING"]', auth))
        assert answers.count(b"ERR max request size exceeded") == 1
        assert answers.endswith(b'{"result":"PONG"}')

    def test_it_is_closed_on_request(self, endpoint: LocalEndpoint) -> None:
        with connect(endpoint) as connection:
            connection.sendall(_raw("POST", b'["PING"]', "Connection: close\r\n"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"\r\nConnection: close\r\n" in answer

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET /ping HTTP/9.9\r\n\r\n", b"505"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
            (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"411"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
        ],
    )
    def test_what_is_no_request_is_answered_too(
        self, endpoint: LocalEndpoint, sent: bytes, status: bytes
    ) -> None:
        answer = converse(endpoint, sent)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b'\r\n\r\n{"error":"ERR ' in answer
        assert ask(endpoint, "PING") == {"result": "PONG"}

    def test_half_a_request_is_not_run(self, endpoint: LocalEndpoint) -> None:
        auth = f"Authorization: Bearer {endpoint.token}\r\n"
        assert converse(endpoint, _raw("POST", b'["SET","k","v"]      ', auth)[:-3]) == b""
        assert ask(endpoint, "EXISTS", "k") == {"result": 0}

    def test_usage_is_what_went_over_the_wire(self, either_endpoint: LocalEndpoint) -> None:
        before = either_endpoint.usage()
        sent = _raw(
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
            kept.sendall(_raw("POST", b"", ""))
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


def _raw(method: str, body: bytes, headers: str, path: str = "/") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


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


class TestRedisServers:
    def test_a_pipeline_reaches_redis_as_one(
        self, real_endpoint: LocalEndpoint, tcp: redis.Redis
    ) -> None:
        def reads() -> int:
            return int(tcp.info("stats")["total_reads_processed"])

        before = reads()
        send(real_endpoint, [["GET", "k"]] * 1000, "/pipeline")
        assert reads() - before < 50

    def test_what_one_writes_the_other_reads(
        self, real_endpoint: LocalEndpoint, tcp: redis.Redis
    ) -> None:
        ask(real_endpoint, "SET", "order:ü/🍕", "über REST", "EX", "604800")
        assert tcp.get("order:ü/🍕") == "über REST".encode()
        assert 604_790 <= tcp.ttl("order:ü/🍕") <= 604_800
        tcp.set("by-tcp", "über TCP")
        assert ask(real_endpoint, "GET", "by-tcp") == {"result": "über TCP"}

    def test_one_that_is_not_there_is_named(self) -> None:
        port = free_port()
        endpoint = LocalEndpoint(redis_url=f"redis://user:hush-hush@127.0.0.1:{port}/3")
        with pytest.raises(UnavailableError) as failure:
            endpoint.start()
        assert f"Redis at 127.0.0.1:{port}/3" in str(failure.value)
        assert "hush" not in str(failure.value)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:6379", "127.0.0.1:6379", "redis://user:hu/sh@127.0.0.1:6379"]
    )
    def test_a_url_that_is_none_is_not_repeated(self, url: str) -> None:
        with pytest.raises(SettingsError, match="should look like redis://") as failure:
            LocalEndpoint(redis_url=url).start()
        assert "hu" not in str(failure.value)

    @needs_redis_server
    def test_a_password_is_used_and_not_shown(self) -> None:
        with redis_server("--requirepass", "hush-hush") as url:
            with pytest.raises(UnavailableError):
                LocalEndpoint(redis_url=url).start()
            with LocalEndpoint(
                redis_url=url.replace("redis://", "redis://:hush-hush@")
            ) as endpoint:
                assert ask(endpoint, "PING") == {"result": "PONG"}
                assert "hush" not in f"{endpoint!r} {endpoint.backend}"

    @needs_redis_server
    def test_one_that_goes_away_is_a_503_until_it_is_back(self) -> None:
        with redis_server() as url:
            endpoint = LocalEndpoint(redis_url=url)
            endpoint.start()
            assert ask(endpoint, "PING") == {"result": "PONG"}
        with endpoint:
            for path, body in [("/", ["PING"]), ("/multi-exec", [["PING"]])]:
                answer = send(endpoint, body, path)
                assert answer.status_code == 503
                assert "is not available" in answer.json()["error"]
            port = url.rpartition(":")[2].partition("/")[0]
            with redis_server("--port", port):
                assert ask(endpoint, "PING") == {"result": "PONG"}

    def test_without_the_extra_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fakeredis", None)
        with pytest.raises(ImportError, match=r"pip install 'upstash-state\[local\]'"):
            LocalEndpoint().start()


class TestUpstashsOwnSdk:
    """upstash-redis as it comes: base64, telemetry headers, sync token."""

    def test_commands(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            assert client.ping() == "PONG"
            assert client.set("k", "Jürgen 🍕", ex=100) is True
            assert client.get("k") == "Jürgen 🍕"
            assert client.get("none") is None
            assert client.ttl("k") in (99, 100)
            assert client.set("ok", "OK")
            assert client.mget("k", "none", "ok") == ["Jürgen 🍕", None, "OK"]
            assert client.exists("k", "none") == 1
            assert client.hset("hash", "field", "value") == 1
            assert client.hgetall("hash") == {"field": "value"}
            assert client.zadd("z", {"a": 1.5}) == 1
            assert client.zrange("z", 0, -1, withscores=True) == [("a", 1.5)]
            assert client.set("n", 41)
            assert client.incr("n") == 42
            assert client.set("json", {"a": [1, None]})
            assert client.get("json") == '{"a": [1, null]}'
            assert sorted(client.keys("*")) == ["hash", "json", "k", "n", "ok", "z"]
            assert client.dbsize() == 6
            assert client.delete("k", "none") == 1

    def test_scan_walks_over_all_keys(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.mset({f"order:{number}": "x" for number in range(500)})
            client.hset("order:hash", "field", "value")
            found: list[str] = []
            cursor: int | str = 0
            while True:
                cursor, page = client.scan(cursor, match="order:*", count=50, type="string")
                found += page
                if int(cursor) == 0:
                    break
        assert set(found) == {f"order:{number}" for number in range(500)}

    def test_pipelines_and_transactions(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            for batch in (client.pipeline(), client.multi()):
                batch.set("k", "ü")
                batch.get("k")
                batch.mget("k", "none")
                batch.delete("k")
                assert batch.exec() == [True, "ü", ["ü", None], 1]

    def test_errors(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.hset("hash", "field", "value")
            with pytest.raises(SdkError, match="WRONGTYPE"):
                client.get("hash")
        with sdk(either_endpoint, "wrong") as client, pytest.raises(SdkError, match="WRONGPASS"):
            client.get("k")
        with (
            sdk(either_endpoint, either_endpoint.read_only_token) as client,
            pytest.raises(SdkError, match="NOPERM"),
        ):
            client.set("k", "v")

    def test_the_sync_token_is_kept(self, either_endpoint: LocalEndpoint) -> None:
        with sdk(either_endpoint) as client:
            client.set("k", "v")
            first = client._sync_token
            client.get("k")
            assert first < client._sync_token

    def test_with_redis_py_on_the_same_data(
        self, real_endpoint: LocalEndpoint, tcp: redis.Redis
    ) -> None:
        with sdk(real_endpoint) as client:
            client.set("order:1", '{"name": "Jürgen"}', ex=604_800)
            assert tcp.get("order:1") == '{"name": "Jürgen"}'.encode()
            tcp.set("order:2", b"from TCP")
            assert client.get("order:2") == "from TCP"


# A shell lets what it starts in the background, such as a CI run, overlook Ctrl-C.
SERVE = """
import signal
from upstash_state.local import serve
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(serve(0, None, None))
"""


class TestServe:
    def test_it_says_what_to_export_and_ends_on_ctrl_c(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "Ctrl-C" in line:
                    break
            exports = dict(
                line.removeprefix("export ").strip().split("=", 1)
                for line in lines
                if line.startswith("export ")
            )
            answer = requests.post(
                exports["UPSTASH_REDIS_REST_URL"],
                data=b'["PING"]',
                headers={"Authorization": f"Bearer {exports['UPSTASH_REDIS_REST_TOKEN']}"},
                timeout=DEADLINE,
            )
            assert answer.json() == {"result": "PONG"}
            assert "fakeredis" in lines[0]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
            process.communicate()
        assert (process.returncode, errors) == (0, "")

    def test_a_port_that_is_taken(self, endpoint: LocalEndpoint) -> None:
        out = io.StringIO()
        port = int(endpoint.url.rpartition(":")[2])
        assert serve(port, None, None, out=out) == 1
        assert out.getvalue().startswith(f"Cannot listen on 127.0.0.1, port {port}: ")

    @pytest.mark.parametrize(
        ("token", "redis_url"), [("line\nbreak", None), (None, "http://x"), (None, "redis://[::1")]
    )
    def test_what_cannot_be_used_is_said_in_a_line(
        self, token: str | None, redis_url: str | None
    ) -> None:
        out = io.StringIO()
        assert serve(0, token, redis_url, out=out) == 1
        assert out.getvalue().startswith("Cannot start: ")
        assert out.getvalue().count("\n") == 1

    @pytest.mark.parametrize(
        ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
    )
    def test_it_warns_where_others_can_reach_it(
        self, monkeypatch: pytest.MonkeyPatch, host: str, warned: bool
    ) -> None:
        def interrupt(_: LocalEndpoint) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalEndpoint, "serve_forever", interrupt)
        out = io.StringIO()
        assert serve(0, "the-token", None, host=host, out=out) == 0
        assert "export UPSTASH_REDIS_REST_TOKEN=the-token\n" in out.getvalue()
        assert ("Warning" in out.getvalue()) is warned

    def test_serve_forever_returns_when_closed(self) -> None:
        endpoint = LocalEndpoint()
        with ThreadPoolExecutor(1) as pool:
            endpoint.start()
            serving = pool.submit(endpoint.serve_forever)
            endpoint.close()
            serving.result(timeout=DEADLINE)
