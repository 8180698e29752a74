"""What the embedded endpoint refuses: tokens, limits, commands that Upstash does not have."""

from __future__ import annotations

import json

import pytest
import requests

from tests.local.talk import DEADLINE, ask, needs_lua, send, unavailable
from upstash_state.errors import SettingsError
from upstash_state.local import LocalEndpoint


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
            "SCRIPT DEBUG YES",
            "script kill",
            "MEMORY DOCTOR",
            "FUNCTION KILL",
            "function restore x",
            "MOVE k 1",
            "COPY k other DB 1",
            "COPY k other REPLACE db 1",
            "BLMOVEM a b LEFT LEFT 0",
            "XREADGROUP BLOCK 0 GROUP g c STREAMS s >",
            "XREADGROUP GROUP block c COUNT 1 BLOCK 0 STREAMS s >",
        ],
    )
    def test_what_needs_a_connection_or_an_operator_is_not_available(
        self, either_endpoint: LocalEndpoint, command: str
    ) -> None:
        words = command.split()
        answer = send(either_endpoint, words)
        assert answer.status_code == 400
        assert answer.json() == {"error": unavailable(words[0].upper())}
        assert ask(either_endpoint, "PING") == {"result": "PONG"}

    @pytest.mark.parametrize("name", ["", "\n", "ü", "a\r\nb", "\x00", " PING", "\tBLPOP"])
    def test_odd_command_names_break_nothing(
        self, either_endpoint: LocalEndpoint, name: str
    ) -> None:
        assert ask(either_endpoint, name, "x")["error"].startswith("ERR unknown command")
        assert ask(either_endpoint, "PING") == {"result": "PONG"}

    def test_what_is_named_block_does_not_block(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "XADD", "block", "1-1", "field", "value")
        ask(either_endpoint, "XGROUP", "CREATE", "block", "BLOCK", "0")
        entries = {"result": [["block", [["1-1", ["field", "value"]]]]]}
        assert ask(either_endpoint, "XREAD", "STREAMS", "block", "0") == entries
        group = ["XREADGROUP", "GROUP", "BLOCK", "streams", "COUNT", "1", "STREAMS", "block", ">"]
        assert ask(either_endpoint, *group) == entries

    @pytest.mark.parametrize("command", ["TS.MGET FILTER a=b", "bf.add k v", "SEARCH.QUERY i {}"])
    def test_modules_that_upstash_lacks_are_unknown(
        self, either_endpoint: LocalEndpoint, command: str
    ) -> None:
        answer = send(either_endpoint, command.split())
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("ERR unknown command")
        assert ask(either_endpoint, "PING") == {"result": "PONG"}

    def test_an_error_is_one_line(self, either_endpoint: LocalEndpoint) -> None:
        needs_lua(either_endpoint)
        for command in (["a\r\nb"], ["EVAL", "return redis.error_reply('one\\r\\ntwo')", "0"]):
            answer = send(either_endpoint, command, Upstash_Response_Format="resp2")
            assert answer.content.startswith(b"-")
            assert answer.content.count(b"\r") == answer.content.count(b"\n") == 1
            assert "\n" not in ask(either_endpoint, *command)["error"]
