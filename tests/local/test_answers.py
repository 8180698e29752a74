"""What the embedded endpoint answers: values, encodings, forms of requests, transactions."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.local.talk import DEADLINE, ask, send, unavailable
from upstash_state.local import LocalEndpoint

RECORDING = Path(__file__).with_name("serverless-redis-http.json")
NOT_UTF8 = b"\x00\xff\xfe ok \xc3\x28"


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
            assert ask(either_endpoint, "TTL", "k")["result"] in range(1, 101)

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
            {"error": unavailable("BLPOP")},
            {"result": "v"},
        ]


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
            (["BLPOP", "l", "0"], unavailable("BLPOP")),
            (["EXEC"], unavailable("EXEC")),
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
