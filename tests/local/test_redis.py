"""What holds the embedded endpoint's data: Redis servers, fakeredis."""

from __future__ import annotations

import sys

import pytest
import redis

from tests.local.talk import ask, needs_lua, send
from tests.support.servers import needs_redis_server, redis_server
from upstash_state.errors import SettingsError, UnavailableError
from upstash_state.local import LocalEndpoint
from upstash_state.local.redis import _reply


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
        assert 604_000 <= tcp.ttl("order:ü/🍕") <= 604_800
        tcp.set("by-tcp", "über TCP")
        assert ask(real_endpoint, "GET", "by-tcp") == {"result": "über TCP"}

    def test_one_that_is_not_there_is_named(self, port: int) -> None:
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
        monkeypatch.delitem(sys.modules, "upstash_state.local.fake", raising=False)
        monkeypatch.setitem(sys.modules, "fakeredis", None)
        with pytest.raises(ImportError, match=r"pip install 'upstash-state\[local\]'"):
            LocalEndpoint().start()


class TestFakeredis:
    """What Upstash has and fakeredis lacks, or gives in another form."""

    def test_lua_comes_with_the_extra(self, either_endpoint: LocalEndpoint) -> None:
        needs_lua(either_endpoint)
        script = "return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}"
        assert ask(either_endpoint, "EVAL", script, "1", "k", "a") == {"result": ["k", "a", 1]}

    def test_json_comes_with_the_extra(self, endpoint: LocalEndpoint) -> None:
        assert ask(endpoint, "JSON.SET", "k", "$", '{"a": 1}') == {"result": "OK"}
        assert ask(endpoint, "JSON.GET", "k", "$.a") == {"result": "[1]"}
        assert ask(endpoint, "JSON.DEL", "k") == {"result": 1}

    def test_info_answers(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "SET", "k", "v")
        lines = ask(either_endpoint, "INFO")["result"].split("\r\n")
        assert any(line.startswith("redis_version:") for line in lines)
        assert any(line.startswith("db0:keys=1") for line in lines)

    def test_memory_usage(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "SET", "k", "v" * 1000)
        assert 1000 < ask(either_endpoint, "MEMORY", "USAGE", "k")["result"] < 3000
        assert ask(either_endpoint, "MEMORY", "USAGE", "none") == {"result": None}

    def test_read_only_forms(self, either_endpoint: LocalEndpoint) -> None:
        needs_lua(either_endpoint)
        ask(either_endpoint, "SET", "k", "v")
        assert ask(either_endpoint, "TOUCH", "k", "none") == {"result": 1}
        script = "return redis.call('GET', KEYS[1])"
        assert ask(either_endpoint, "EVAL_RO", script, "1", "k") == {"result": "v"}
        sha = ask(either_endpoint, "SCRIPT", "LOAD", script)["result"]
        assert ask(either_endpoint, "EVALSHA_RO", sha, "1", "k") == {"result": "v"}
        assert ask(either_endpoint, "BITFIELD_RO", "k", "GET", "u8", "0") == {"result": [118]}

    def test_the_read_only_bitfield_does_not_write(self, either_endpoint: LocalEndpoint) -> None:
        read_only = f"Bearer {either_endpoint.read_only_token}"
        for words in ("SET u8 0 65", "GET u8 0 set u8 0 65", "INCRBY u8 0 1"):
            command = ["BITFIELD_RO", "k", *words.split()]
            assert "error" in ask(either_endpoint, *command, authorization=read_only)
        assert ask(either_endpoint, "EXISTS", "k") == {"result": 0}

    def test_an_unknown_script_is_told_from_other_errors(
        self, either_endpoint: LocalEndpoint
    ) -> None:
        needs_lua(either_endpoint)
        error = ask(either_endpoint, "EVALSHA", "f" * 40, "0")["error"]
        assert error.startswith("NOSCRIPT ")

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (redis.exceptions.NoScriptError("No matching script"), "NOSCRIPT No matching script"),
            (redis.exceptions.ReadOnlyError("You can't"), "READONLY You can't"),
            (redis.exceptions.ResponseError("syntax error"), "ERR syntax error"),
            (redis.exceptions.ResponseError("WRONGTYPE Operation"), "WRONGTYPE Operation"),
        ],
    )
    def test_redis_py_before_7_2_does_not_say_which_code_it_took_off(
        self, error: Exception, text: str
    ) -> None:
        assert not getattr(error, "status_code", None)
        assert _reply(error).text == text  # type: ignore[union-attr]

    def test_other_types_become_those_of_redis(self) -> None:
        replies = _reply([1.5, True, "ü", (b"a", None), 7])
        assert repr(replies) == repr([b"1.5", 1, "ü".encode(), [b"a", None], 7])

    def test_a_fault_of_fakeredis_is_named_and_spoils_nothing_else(
        self, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(raw: object) -> None:
            raise TypeError("on purpose")

        with monkeypatch.context() as patched:
            patched.setattr("upstash_state.local.redis._reply", fail)
            answer = send(endpoint, [["ECHO", "one"], ["ECHO", "two"]], "/pipeline")
        assert answer.status_code == 500
        assert answer.json() == {"error": "ERR fakeredis failed: TypeError: on purpose"}
        assert ask(endpoint, "ECHO", "three") == {"result": "three"}
