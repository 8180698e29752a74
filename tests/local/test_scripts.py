"""Lua scripts at the embedded endpoint: what they can do, and what they cannot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from typing import Any

import pytest
import redis

from tests.local import payloads
from tests.local.talk import ask, needs_lua, send
from upstash_state.local import LocalEndpoint

LOCKING = "#!lua flags=allow-key-locking\n"
HEALTHY = """
return {
  redis.call('PING').ok, ('x'):rep(3), cjson.encode({1}), tostring(1), math.floor(1.5),
  redis.sha1hex(''), bit.bor(1, 2), KEYS[1], #ARGV, redis.pcall('NOSUCH').err ~= nil
}
"""


def sha_of(text: str) -> str:
    return sha1(text.encode()).hexdigest()


def evaluate(endpoint: LocalEndpoint, script: str, *arguments: object) -> Any:
    """What a script with one key, k, answers."""
    return ask(endpoint, "EVAL", script, "1", "k", *arguments)


def healthy(endpoint: LocalEndpoint) -> bool:
    return bool(
        evaluate(endpoint, HEALTHY, "a")
        == {"result": ["PONG", "xxx", "[1]", "1", 1, sha_of(""), 3, "k", 1, 1]}
    )


class TestWhatScriptsCanDo:
    @pytest.fixture(autouse=True)
    def lua(self, either_endpoint: LocalEndpoint) -> None:
        needs_lua(either_endpoint)

    def test_values_come_back_as_from_redis(self, either_endpoint: LocalEndpoint) -> None:
        for script, expected in [
            ("return {KEYS[1], ARGV[1], #ARGV}", ["k", "a", 1]),
            ("return {1, 'two', {3}, false, true, nil, 4}", [1, "two", [3], None, 1]),
            ("return 3.99", 3),
            ("return {-3.99, 1 / 0}", [-3, -(2**63)]),
            ("return redis.status_reply('FINE')", "FINE"),
            ("return {}", []),
            ("return", None),
        ]:
            assert evaluate(either_endpoint, script, "a") == {"result": expected}

    def test_commands_and_their_replies(self, either_endpoint: LocalEndpoint) -> None:
        script = """
        local set = redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        local ttl = redis.call('PTTL', KEYS[1])
        local got = redis.call('GET', KEYS[1])
        local gone = redis.call('DEL', KEYS[1])
        return {set.ok, ttl > 0 and ttl <= 1000, got, gone, redis.call('GET', KEYS[1]) == false}
        """
        assert evaluate(either_endpoint, script, "v", "1000") == {"result": ["OK", 1, "v", 1, 1]}

    def test_many_keys_and_arguments(self, either_endpoint: LocalEndpoint) -> None:
        script = """
        for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i], 'PX', '100000') end
        return {#KEYS, #ARGV, redis.call('GET', KEYS[#KEYS])}
        """
        words = [f"{name}{number}" for name in "ka" for number in range(1000)]
        answer = ask(either_endpoint, "EVAL", script, "1000", *words)
        assert answer == {"result": [1000, 1000, "a999"]}

    def test_libraries(self, either_endpoint: LocalEndpoint) -> None:
        script = """
        local read = cjson.decode('{"a": [1, null, "x"], "b": 1.5}')
        return {
          read.a[1], read.a[2] == cjson.null, read.a[3], tostring(read.b),
          cjson.encode({1, 'two', {three = true}, cjson.null}), redis.sha1hex('x'),
          bit.band(255, 15), bit.bnot(0), bit.lshift(1, 31), bit.rshift(-1, 28),
          bit.arshift(-256, 4), bit.rol(1, 33), bit.ror(1, 1), bit.bswap(1), bit.tohex(255),
          bit.tohex(-1, -4), bit.bxor(1, 2, 4), bit.bor(1, 2), bit.tobit(2 ^ 32 + 5),
          string.format('%05.1f', math.max(1, 2)), table.concat({1, 2}, ','), unpack({7}),
        }
        """
        assert evaluate(either_endpoint, script)["result"] == [
            *(1, 1, "x", "1.5", '[1,"two",{"three":true},null]', sha_of("x")),
            *(15, -1, -(2**31), 15, -16, 2, -(2**31), 2**24, "000000ff", "FFFF", 7, 3, 5),
            *("002.0", "1,2", 7),
        ]

    def test_an_error_says_its_line(self, either_endpoint: LocalEndpoint) -> None:
        for script, error in [
            ("\n\nerror('on purpose')", "ERR user_script:3: on purpose"),
            (f"{LOCKING}\nreturn nil + 1", "ERR user_script:3: attempt to perform arithmetic"),
            ("return x", "ERR user_script:1: Script attempted to access nonexistent global"),
            ("x = 1", "ERR user_script:1: Attempt to modify a readonly table"),
            ("\nreturn x x", "ERR Error compiling script (new function): user_script:2: "),
            ("return redis.error_reply('MINE own')", "MINE own"),
            ("redis.call('HSET', 'h', 'f', 1) return redis.call('GET', 'h')", "WRONGTYPE "),
        ]:
            said = evaluate(either_endpoint, script)["error"]
            assert said.startswith(error)
            assert " script: " not in said

    def test_a_reply_that_holds_itself_is_an_error(self, either_endpoint: LocalEndpoint) -> None:
        answer = send(either_endpoint, ["EVAL", "local t = {} t[1] = t return t", "0"])
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("ERR ")
        assert healthy(either_endpoint)

    def test_an_error_can_be_caught(self, either_endpoint: LocalEndpoint) -> None:
        script = """
        local caught, message = pcall(error, 'first', 0)
        local handled, answer = xpcall(error, function() return 'second' end)
        return {caught, message, handled, answer, type(redis.pcall('GET').err)}
        """
        expected = [None, "first", None, "second", "string"]
        assert evaluate(either_endpoint, script) == {"result": expected}

    @pytest.mark.parametrize("first", ["", LOCKING, "#!lua\n", "#!lua flags=no-writes,allow-oom\n"])
    def test_the_sha1_is_that_of_the_text_that_was_sent(
        self, either_endpoint: LocalEndpoint, first: str
    ) -> None:
        loaded, run = f"{first}return 'loaded'", f"{first}return 'run'"
        shas = [sha_of(text) for text in (loaded, run, "neither")]
        assert ask(either_endpoint, "SCRIPT", "LOAD", loaded) == {"result": shas[0]}
        assert ask(either_endpoint, "EVAL", run, "0") == {"result": "run"}
        assert ask(either_endpoint, "SCRIPT", "EXISTS", *shas) == {"result": [1, 1, 0]}
        assert ask(either_endpoint, "EVALSHA", shas[0].upper(), "0") == {"result": "loaded"}
        transaction = [["EVALSHA", shas[1], "0"], ["PING"]]
        answer = send(either_endpoint, transaction, "/multi-exec").json()
        assert answer == [{"result": "run"}, {"result": "PONG"}]
        assert ask(either_endpoint, "SCRIPT", "FLUSH") == {"result": "OK"}
        assert ask(either_endpoint, "SCRIPT", "EXISTS", *shas) == {"result": [0, 0, 0]}
        for sha in shas:
            assert ask(either_endpoint, "EVALSHA", sha, "0")["error"].startswith("NOSCRIPT ")

    @pytest.mark.parametrize("first", ["#!js", "#!lua flags=unknown", "#!lua name=x", "#!"])
    def test_other_first_lines_are_refused(
        self, either_endpoint: LocalEndpoint, first: str
    ) -> None:
        assert "error" in evaluate(either_endpoint, f"{first}\nreturn 1")

    def test_a_script_that_must_not_write_does_not(self, real_endpoint: LocalEndpoint) -> None:
        write = "return redis.call('SET', 'k', 1)"
        flagged = f"#!lua flags=no-writes\n{write}"
        for name, text in ("EVAL", flagged), ("EVAL_RO", write), ("EVAL_RO", f"{LOCKING}{write}"):
            for command in ([name, text], [name.replace("EVAL", "EVALSHA"), sha_of(text)]):
                answer = ask(real_endpoint, *command, "0")
                assert answer["error"].startswith("ERR Write commands are not allowed")

    @pytest.mark.parametrize(
        "arguments", [[], ["return 1"], ["return 1", "x"], ["return 1", "-1"], ["return 1", "1"]]
    )
    def test_wrong_arguments_are_refused(
        self, either_endpoint: LocalEndpoint, arguments: list[str]
    ) -> None:
        assert ask(either_endpoint, "EVAL", *arguments)["error"].startswith("ERR ")
        load = ["SCRIPT", "LOAD", *arguments, *arguments]
        assert ask(either_endpoint, *load)["error"].startswith("ERR ")

    @pytest.mark.parametrize(
        ("command", "result", "stored"),
        [
            ("SET k w IFEQ v", "OK", "w"),
            ("SET k w ifeq x", None, "v"),
            ("SET k w IFNE x PX 100000", "OK", "w"),
            ("SET k w EX 100 IFNE v", None, "v"),
            ("SET k w IFEQ v GET", "v", "w"),
            ("SET k w IFEQ x GET", None, "v"),
            ("SET none w IFEQ v", None, None),
            ("SET none w IFNE v", "OK", "w"),
            ("SET k IFEQ", "OK", "IFEQ"),
            ("DELEX k IFEQ v", 1, None),
            ("DELEX k IFEQ x", 0, "v"),
            ("DELEX k IFNE x", 1, None),
            ("DELEX none IFEQ v", 0, None),
        ],
    )
    def test_a_condition_on_the_stored_value(
        self, either_endpoint: LocalEndpoint, command: str, result: object, stored: str | None
    ) -> None:
        ask(either_endpoint, "SET", "k", "v")
        words = command.split()
        assert ask(either_endpoint, *words) == {"result": result}
        assert ask(either_endpoint, "GET", words[1]) == {"result": stored}
        assert (ask(either_endpoint, "PTTL", "k")["result"] > 0) == ("PX" in words)

    def test_a_condition_needs_a_text_and_an_operand(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "HSET", "k", "field", "v")
        for command in ("SET k w IFEQ v", "DELEX k IFEQ v"):
            assert ask(either_endpoint, *command.split())["error"].startswith("WRONGTYPE ")
        ask(either_endpoint, "SET", "k", "v")
        for command in ("SET k w IFEQ", "SET k w IFEQ v IFEQ v"):
            assert ask(either_endpoint, *command.split())["error"].startswith("ERR syntax error")


class TestWhatTheyCannot:
    @pytest.fixture(autouse=True)
    def lua(self, either_endpoint: LocalEndpoint) -> None:
        needs_lua(either_endpoint)

    def test_no_script_gets_out(self, either_endpoint: LocalEndpoint) -> None:
        escaped = [
            script
            for script in payloads.ESCAPES
            if "ESCAPED" in str(evaluate(either_endpoint, script).get("result"))
        ]
        assert escaped == []
        assert healthy(either_endpoint)

    def test_no_script_changes_the_next_one(self, either_endpoint: LocalEndpoint) -> None:
        for script in payloads.CHANGES:
            evaluate(either_endpoint, script)
            assert healthy(either_endpoint), script

    def test_what_is_refused_is_refused_in_scripts(self, either_endpoint: LocalEndpoint) -> None:
        ask(either_endpoint, "SET", "k", "v")
        for command in payloads.REFUSED:
            words = ", ".join(f"'{word}'" for word in command.split(" "))
            if command.startswith(" "):
                words = f"'{command}'"
            for call in ("call", "pcall"):
                answer = evaluate(either_endpoint, f"return redis.{call}({words})")
                assert "error" in answer, command
        assert ask(either_endpoint, "DBSIZE") == {"result": 1}

    def test_names_that_lead_past_it_are_hidden(self, either_endpoint: LocalEndpoint) -> None:
        for name in ("_G.redis", "getfenv(0).redis", "loadstring('return redis')()"):
            answer = evaluate(either_endpoint, f"return {name}.call('SELECT', 1)")
            assert answer["error"].startswith("ERR user_script:1: ")
            assert "Unknown Redis command" not in answer["error"]


class TestOtherDatabases:
    """Those of the Redis server behind the endpoint, which are not the endpoint's."""

    @pytest.fixture
    def other(self, tcp: redis.Redis) -> redis.Redis:
        at = tcp.connection_pool.connection_kwargs
        client = redis.Redis(at["host"], at["port"], db=at["db"] + 1, password=at.get("password"))
        client.set("theirs", "v")
        return client

    @pytest.mark.parametrize(
        "command",
        [["FLUSHALL"], ["flushall", "SYNC"], ["EVAL", "return redis.call('FlushAll')", "0"]],
    )
    def test_flushall_leaves_them(
        self, real_endpoint: LocalEndpoint, other: redis.Redis, command: list[str]
    ) -> None:
        ask(real_endpoint, "SET", "k", "v")
        assert ask(real_endpoint, *command) == {"result": "OK"}
        assert ask(real_endpoint, "DBSIZE") == {"result": 0}
        assert other.get("theirs") == b"v"

    def test_a_function_reaches_them_no_more_than_a_script(
        self, real_endpoint: LocalEndpoint, other: redis.Redis
    ) -> None:
        code = """#!lua name=mine
        local function read(keys) return redis.call('GET', keys[1]) end
        redis.register_function{
          function_name = 'mine_read', callback = read, flags = {'no-writes', 'allow-key-locking'}
        }
        redis.register_function('mine_other', function() redis.call('SELECT', 1) end)
        redis.register_function('mine_flush', function() return redis.call('FLUSHALL') end)
        """
        load = ["FUNCTION", "LOAD", "REPLACE", code]
        assert ask(real_endpoint, *load) == {"result": "mine"}
        ask(real_endpoint, "SET", "k", "v")
        assert ask(real_endpoint, "FCALL_RO", "mine_read", "1", "k") == {"result": "v"}
        assert "error" in ask(real_endpoint, "FCALL", "mine_other", "0")
        assert ask(real_endpoint, "FCALL", "mine_flush", "0") == {"result": "OK"}
        assert other.get("theirs") == b"v"
        listed = ask(real_endpoint, "FUNCTION", "LIST", "LIBRARYNAME", "mine", "WITHCODE")
        assert code in listed["result"][0]
        assert ask(real_endpoint, "FUNCTION", "DELETE", "mine") == {"result": "OK"}

    def test_functions_need_a_redis_server(self, endpoint: LocalEndpoint) -> None:
        for command in ("FUNCTION LOAD x", "FUNCTION LIST", "FCALL f 0", "FCALL_RO f 0"):
            assert "fakeredis has no functions" in ask(endpoint, *command.split())["error"]


class TestOverFakeredis:
    @pytest.fixture
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> LocalEndpoint:
        """An endpoint whose scripts get little time and memory."""
        lua = pytest.importorskip("upstash_state.local.lua", reason="lupa is not installed")
        monkeypatch.setattr(lua, "SECONDS", 0.05)
        monkeypatch.setattr(lua, "MEMORY_BYTES", 16 * 1024 * 1024)
        return LocalEndpoint()

    def test_the_payloads_get_out_of_a_lua_that_is_not_confined(self) -> None:
        pytest.importorskip("lupa", reason="lupa has no wheel for this Python")
        import fakeredis

        def escapes(script: str) -> bool:
            try:
                return fakeredis.FakeRedis().eval(script, 0) == b"ESCAPED"
            except Exception:
                return False

        assert sum(map(escapes, payloads.ESCAPES)) > 20

    def test_a_condition_on_the_digest(self, endpoint: LocalEndpoint) -> None:
        xxhash = pytest.importorskip("xxhash", reason="xxhash is not installed")
        digest = xxhash.xxh3_64_hexdigest(b"v")
        ask(endpoint, "SET", "k", "v")
        assert ask(endpoint, "DIGEST", "k") == {"result": digest}
        assert ask(endpoint, "SET", "k", "w", "IFDNE", digest) == {"result": None}
        assert ask(endpoint, "SET", "k", "w", "IFDEQ", digest) == {"result": "OK"}
        assert ask(endpoint, "DELEX", "k", "IFDEQ", digest) == {"result": 0}
        assert ask(endpoint, "DELEX", "k", "IFDNE", digest) == {"result": 1}

    @pytest.mark.slow
    def test_nothing_stops_the_endpoint(self, impatient: LocalEndpoint) -> None:
        with impatient:
            ask(impatient, "SET", "large", "x" * 5_000_000)
            for script in payloads.EXHAUSTING:
                evaluate(impatient, script)
                assert healthy(impatient), script

    @pytest.mark.parametrize(
        ("script", "error"),
        [
            ("while true do pcall(function() while true do end end) end", "took too long"),
            ("local s = 'x' while true do s = s .. s end", "not enough memory"),
        ],
    )
    def test_time_and_memory_are_bound(
        self, impatient: LocalEndpoint, script: str, error: str
    ) -> None:
        with impatient:
            assert error in evaluate(impatient, script)["error"]
            assert healthy(impatient)

    def test_others_are_answered_while_a_script_never_ends(self, impatient: LocalEndpoint) -> None:
        with impatient, ThreadPoolExecutor(5) as pool:
            endless = [pool.submit(evaluate, impatient, "while true do end") for _ in range(4)]
            assert pool.submit(ask, impatient, "PING").result() == {"result": "PONG"}
            assert all("took too long" in answer.result()["error"] for answer in endless)

    def test_a_lua_that_cannot_be_stopped_makes_others_busy(
        self, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("upstash_state.local.fake._BUSY_SECONDS", 0.01)
        backend: Any = endpoint._backend
        with backend._server.lock:
            answer = send(endpoint, ["PING"])
            assert (answer.status_code, answer.json()["error"][:5]) == (503, "BUSY ")
        assert ask(endpoint, "PING") == {"result": "PONG"}

    def test_scripts_that_cannot_be_confined_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lua = pytest.importorskip("upstash_state.local.lua", reason="lupa is not installed")
        # A fakeredis that makes its Lua in another way.
        monkeypatch.setattr(lua, "SimpleNamespace", lambda **_: lua.scripting_mixin.LUA_MODULE)
        with LocalEndpoint() as endpoint:
            for name in ("EVAL", "eval_ro"):
                answer = ask(endpoint, name, "return python", "0")
                assert answer == {"error": "ERR scripts over fakeredis need fakeredis[lua]>=2.36"}
            assert ask(endpoint, "PING") == {"result": "PONG"}
