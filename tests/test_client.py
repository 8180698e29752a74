"""UpstashRedis: what it sends, what it makes of each answer."""

from __future__ import annotations

import inspect
import itertools
import json
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta, timezone
from enum import Enum, IntEnum
from typing import Any, get_args, get_type_hints
from unittest.mock import create_autospec

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.environ import TOKEN, URL, Environ
from upstash_state import (
    AnswerError,
    AuthenticationError,
    CapacityExceededError,
    DataError,
    Health,
    KeyTooLargeError,
    NoPermissionError,
    OrderStore,
    Pipeline,
    QuotaExceededError,
    RecordTooLargeError,
    RequestTooLargeError,
    ResponseError,
    SettingsError,
    UnavailableError,
    UpstashError,
    UpstashRedis,
    WrongTypeError,
    commands,
    reset_client,
)
from upstash_state.commands import Command
from upstash_state.transport import Answer, Endpoint, Send, intercepting


@pytest.fixture
def redis() -> UpstashRedis:
    return UpstashRedis(URL, TOKEN)


def sent(mocked: Any, number: int = -1) -> Any:
    return json.loads(mocked.calls[number].request.body)


@pytest.mark.parametrize(
    ("call", "command", "answer", "result"),
    [
        (lambda r: r.ping(), ["PING"], "PONG", True),
        (lambda r: r.set("k", "v"), ["SET", "k", "v"], "OK", True),
        (lambda r: r.set("k", b"v", ex=60), ["SET", "k", "v", "EX", "60"], "OK", True),
        (
            lambda r: r.set("k", 1, ex=timedelta(minutes=1)),
            ["SET", "k", "1", "EX", "60"],
            "OK",
            True,
        ),
        (
            lambda r: r.set("k", 1.5, px=timedelta(seconds=1), nx=True),
            ["SET", "k", "1.5", "PX", "1000", "NX"],
            None,
            None,
        ),
        (lambda r: r.set("k", "v", px=5, xx=True), ["SET", "k", "v", "PX", "5", "XX"], "OK", True),
        (
            lambda r: r.set("k", "v", pxat=1764586800123),
            ["SET", "k", "v", "PXAT", "1764586800123"],
            "OK",
            True,
        ),
        (
            lambda r: r.set("k", "v", pxat=datetime(2025, 12, 1, 11, tzinfo=timezone.utc)),
            ["SET", "k", "v", "PXAT", "1764586800000"],
            "OK",
            True,
        ),
        (
            lambda r: r.msetex({"a": 1, "b": "v"}, ex=timedelta(minutes=1)),
            ["MSETEX", "2", "a", "1", "b", "v", "EX", "60"],
            1,
            True,
        ),
        (lambda r: r.msetex({"a": "v"}), ["MSETEX", "1", "a", "v"], 1, True),
        (lambda r: r.get("k"), ["GET", "k"], "v", "v"),
        (lambda r: r.get("k"), ["GET", "k"], None, None),
        (lambda r: r.mget("a", "b"), ["MGET", "a", "b"], ["v", None], ["v", None]),
        (lambda r: r.mget(["a", "b"]), ["MGET", "a", "b"], ["v", None], ["v", None]),
        (lambda r: r.delete("a", "b"), ["DEL", "a", "b"], 1, 1),
        (lambda r: r.exists("a"), ["EXISTS", "a"], 1, 1),
        (lambda r: r.expire("a", 60), ["EXPIRE", "a", "60"], 1, True),
        (lambda r: r.expire("a", timedelta(days=1)), ["EXPIRE", "a", "86400"], 0, False),
        (lambda r: r.ttl("a"), ["TTL", "a"], -2, -2),
        (lambda r: r.pttl("a"), ["PTTL", "a"], 59_999, 59_999),
        (lambda r: r.keys("o:*"), ["KEYS", "o:*"], ["o:1"], ["o:1"]),
        (lambda r: r.scan(), ["SCAN", "0"], ["0", []], (0, [])),
        (
            lambda r: r.scan(17, "o:*", 1000, "string"),
            ["SCAN", "17", "MATCH", "o:*", "COUNT", "1000", "TYPE", "string"],
            ["42", ["o:1"]],
            (42, ["o:1"]),
        ),
        (lambda r: r.dbsize(), ["DBSIZE"], 3, 3),
        (lambda r: r.execute_command("INCR", "n"), ["INCR", "n"], 1, 1),
        (
            lambda r: r.execute_command("ZADD", "z", 1000000, "m"),
            ["ZADD", "z", "1000000", "m"],
            [["m", None]],
            [["m", None]],
        ),
    ],
)
def test_each_command_is_sent_as_text_and_read_as_redis_py_would(
    mocked: Any, redis: UpstashRedis, call: Any, command: list[str], answer: Any, result: Any
) -> None:
    mocked.post(URL, json={"result": answer})
    assert call(redis) == result
    assert sent(mocked) == command


def test_commands_travel_in_post_bodies_with_the_token_in_a_header(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL, json={"result": None})
    redis.get("order:/?#% ü\n")
    request = mocked.calls[0].request
    assert request.url == URL + "/"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == '["GET","order:/?#% ü\\n"]'.encode()
    assert request.headers["Content-Length"] == str(len(request.body))


def test_the_sync_token_is_sent_back(mocked: Any, redis: UpstashRedis) -> None:
    mocked.post(URL, json={"result": "OK"}, headers={"Upstash-Sync-Token": "one"})
    mocked.post(URL, json={"result": "v"})
    mocked.post(URL + "/pipeline", json=[{"result": "v"}], headers={"Upstash-Sync-Token": "two"})
    redis.set("k", "v")
    redis.get("k")
    redis.pipeline(transaction=False).get("k").execute()
    redis.get("k")
    tokens = [call.request.headers.get("Upstash-Sync-Token") for call in mocked.calls]
    assert tokens == [None, "one", "one", "two"]


@pytest.mark.parametrize(
    ("call", "tries"),
    [
        (lambda r: r.set("k", "v", ex=60), 2),
        (lambda r: r.set("k", "v", xx=True), 2),
        (lambda r: r.set("k", "v", nx=True), 1),
        (lambda r: r.get("k"), 2),
        (lambda r: r.execute_command("GET", "k"), 1),
        (lambda r: r.pipeline().get("k").execute(), 2),
        (lambda r: r.pipeline().get("k").execute_command("INCR", "n").execute(), 1),
    ],
)
def test_only_what_may_run_twice_is_sent_twice(
    mocked: Any, redis: UpstashRedis, call: Any, tries: int
) -> None:
    for url in (URL, URL + "/multi-exec"):
        mocked.post(url, body=requests.ReadTimeout())
    mocked.assert_all_requests_are_fired = False
    with pytest.raises(UnavailableError):
        call(redis)
    assert min(len(mocked.calls), 2) == tries


REFUSALS = [
    (401, "WRONGPASS invalid username-password pair", AuthenticationError),
    (401, "Unauthorized", AuthenticationError),
    (401, "whatever it says", AuthenticationError),
    (400, "NOAUTH Authentication required", AuthenticationError),
    (400, "Missing/Invalid authorization header", AuthenticationError),
    (400, "NOPERM this user has no permissions to run the 'set' command", NoPermissionError),
    (400, "ERR max daily request limit exceeded. Limit: 10000", QuotaExceededError),
    (429, "ERR max requests limit exceeded. Limit: 500000, Usage: 500000", QuotaExceededError),
    (400, "ERR max request size exceeded. Limit: 10485760 bytes", RequestTooLargeError),
    (413, "too big", RequestTooLargeError),
    (400, "ERR max single record size exceeded. Limit: 104857600", RecordTooLargeError),
    (400, "ERR max key size exceeded. Limit: 32768 bytes, Actual: 40000", KeyTooLargeError),
    (400, "ERR DB capacity quota exceeded. Threshold: 268435456 bytes", CapacityExceededError),
    (400, "WRONGTYPE Operation against a key holding the wrong kind", WrongTypeError),
    (400, "ERR unknown command 'NOSUCH'", ResponseError),
    (200, "ERR syntax error", ResponseError),
    (500, "WRONGPASS invalid token", AuthenticationError),
]


@pytest.mark.parametrize(("status", "text", "kind"), REFUSALS)
def test_a_refusal_has_its_own_class_and_is_not_retried(
    mocked: Any, redis: UpstashRedis, status: int, text: str, kind: type[ResponseError]
) -> None:
    mocked.post(URL, status=status, json={"error": text})
    with pytest.raises(ResponseError) as caught:
        redis.get("k")
    assert type(caught.value) is kind
    assert str(caught.value) == text
    assert len(mocked.calls) == 1


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (401, "the token was not accepted", AuthenticationError),
        (413, "the request is too large", RequestTooLargeError),
    ],
)
def test_a_refusing_status_has_its_own_text(
    mocked: Any, redis: UpstashRedis, status: int, text: str, kind: type[ResponseError]
) -> None:
    mocked.post(URL, status=status, body="<html>")
    with pytest.raises(ResponseError) as caught:
        redis.get("k")
    assert type(caught.value) is kind
    assert str(caught.value) == f"{text} (HTTP status {status})"
    assert len(mocked.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>"),
        (200, "null"),
        (200, "[]"),
        (200, '"OK"'),
        (200, "{}"),
        (200, '{"error": 7}'),
        (200, '{"result": NaN}'),
        (200, '{"result": ' + "1" * 5000 + "}"),
        (200, "[" * 100_000),
        (200, b'{"result": "\xff"}'),
        (302, ""),
        (404, "<html>"),
        (403, "<html>"),
    ],
)
def test_what_is_no_answer_is_an_error_like_any_other(
    mocked: Any, redis: UpstashRedis, status: int, body: str | bytes
) -> None:
    mocked.post(URL, status=status, body=body, headers={"Location": "https://other.example/"})
    with pytest.raises(AnswerError):
        redis.get("k")
    assert len(mocked.calls) == 1


def test_an_empty_answer_without_a_length_is_tried_again(mocked: Any, redis: UpstashRedis) -> None:
    # A connection that broke among the headers looks like that.
    mocked.post(URL, body="")
    mocked.post(URL, json={"result": "v"})
    assert redis.get("k") == "v"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda r: r.get("k"), 7),
        (lambda r: r.set("k", "v"), "QUEUED"),
        (lambda r: r.mget("a", "b"), ["v"]),
        (lambda r: r.mget("a"), [7]),
        (lambda r: r.delete("a"), True),
        (lambda r: r.delete("a"), "1"),
        (lambda r: r.keys(), "o:1"),
        (lambda r: r.keys(), [None]),
        (lambda r: r.scan(), ["0"]),
        (lambda r: r.scan(), ["next", []]),
        (lambda r: r.scan(), [[], "0"]),
    ],
)
def test_an_answer_of_the_wrong_type_is_an_error(
    mocked: Any, redis: UpstashRedis, call: Any, answer: Any
) -> None:
    mocked.post(URL, json={"result": answer})
    with pytest.raises(AnswerError):
        call(redis)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda r: r.set("k", None), "must be str, bytes, int or float, not NoneType"),
        (lambda r: r.set("k", True), "must be str, bytes, int or float, not bool"),
        (lambda r: r.set("k", ["v"]), "must be str, bytes, int or float, not list"),
        (lambda r: r.set("k", b"\xff"), "the REST API cannot carry this bytes: 'utf-8'"),
        (lambda r: r.set("k", "\ud83d"), "the REST API cannot carry this str: 'utf-8'"),
        (lambda r: r.set("k", "v", ex=1, px=1), r"one of ex \(seconds\), px"),
        (lambda r: r.set("k", "v", nx=True, xx=True), "not both"),
        (lambda r: r.set("k", "v", ex="60"), "a time must be int, timedelta or datetime, not str"),
        (lambda r: r.mget([]), "at least one key is needed"),
        (lambda r: r.delete(), "at least one key is needed"),
        (lambda r: r.execute_command(), r"a command needs a name, such as execute_command\("),
    ],
)
def test_an_argument_that_cannot_be_sent_is_refused_before_any_request(
    mocked: Any, redis: UpstashRedis, call: Any, text: str
) -> None:
    with pytest.raises(DataError, match=text):
        call(redis)
    assert len(mocked.calls) == 0


def test_a_refused_argument_is_named_by_its_type_on_one_line(redis: UpstashRedis) -> None:
    odd: Any = type("Odd\nERROR all lost", (), {})()
    with pytest.raises(DataError, match=r"not Odd\\nERROR all lost$"):
        redis.set("k", odd)
    with pytest.raises(DataError, match=r"not Odd\\nERROR all lost$"):
        redis.expire("k", odd)


@pytest.mark.parametrize(("transaction", "path"), [(False, "/pipeline"), (True, "/multi-exec")])
def test_a_pipeline_has_a_result_or_an_error_for_each_item(
    mocked: Any, redis: UpstashRedis, transaction: bool, path: str
) -> None:
    mocked.post(URL + path, json=[{"result": "OK"}, {"error": "ERR no integer"}, {"result": "v"}])
    pipeline = redis.pipeline(transaction=transaction)
    pipeline.set("k", "v", ex=60).execute_command("INCR", "k").get("k")
    assert len(pipeline) == 3
    ok, error, value = pipeline.execute(raise_on_error=False)
    assert (ok, value) == (True, "v")
    assert isinstance(error, ResponseError)
    assert sent(mocked) == [["SET", "k", "v", "EX", "60"], ["INCR", "k"], ["GET", "k"]]
    assert len(pipeline) == 0


def test_a_pipeline_raises_its_first_error_unless_told_otherwise(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL + "/multi-exec", json=[{"result": "OK"}, {"error": "WRONGTYPE no"}])
    with pytest.raises(WrongTypeError, match=r"^command 2 \(GET\): WRONGTYPE no$"):
        redis.pipeline().set("k", "v").get("h").execute()


def test_an_empty_pipeline_sends_nothing(mocked: Any, redis: UpstashRedis) -> None:
    assert redis.pipeline().execute() == []
    with redis.pipeline() as pipeline:
        pipeline.get("k")
    assert pipeline.execute() == []


def test_a_pipeline_reads_each_answer_as_the_client_does(mocked: Any, redis: UpstashRedis) -> None:
    pipeline = redis.pipeline(transaction=False)
    pipeline.ping().set("k", "v").msetex({"k": 1}).get("k").mget("k", "l").delete("k").exists(
        "k"
    ).expire("k", 1)
    pipeline.ttl("k").pttl("k").keys().scan().dbsize().execute_command("INCR", "n")
    answers = ["PONG", "OK", 1, "v", ["v", None], 1, 0, 1, 60, -1, ["k"], ["0", ["k"]], 1, 2]
    mocked.post(URL + "/pipeline", json=[{"result": answer} for answer in answers])
    results = [True, True, True, "v", ["v", None], 1, 0, True, 60, -1, ["k"], (0, ["k"]), 1, 2]
    assert pipeline.execute() == results


@pytest.mark.parametrize(
    "body",
    ["{}", "null", "[]", '[{"result": 1}, {"result": 1}, {"result": 1}]', '[{"result": 1}, null]'],
)
def test_a_pipeline_answered_with_something_else_is_an_error(
    mocked: Any, redis: UpstashRedis, body: str
) -> None:
    mocked.post(URL + "/pipeline", body=body)
    with pytest.raises(AnswerError):
        redis.pipeline(transaction=False).get("a").get("b").execute()


def test_a_pipeline_refused_as_a_whole_raises(mocked: Any, redis: UpstashRedis) -> None:
    mocked.post(URL + "/multi-exec", status=400, json={"error": "EXECABORT Transaction"})
    with pytest.raises(ResponseError, match="EXECABORT"):
        redis.pipeline().get("a").execute(raise_on_error=False)


def test_scan_iter_continues_until_the_cursor_is_0(mocked: Any, redis: UpstashRedis) -> None:
    mocked.post(URL, json={"result": ["5", ["a"]]})
    mocked.post(URL, json={"result": ["7", []]})
    mocked.post(URL, json={"result": ["0", ["b"]]})
    assert list(redis.scan_iter("*")) == ["a", "b"]
    assert [sent(mocked, i)[1] for i in range(3)] == ["0", "5", "7"]


def test_from_env_takes_the_environment(environ: Environ, mocked: Any) -> None:
    environ.use(URL, TOKEN)
    mocked.post(URL, json={"result": "PONG"})
    with UpstashRedis.from_env() as redis:
        assert redis.ping()


def test_a_client_for_a_bad_address_is_refused_without_showing_the_token() -> None:
    with pytest.raises(SettingsError):
        UpstashRedis("rediss://default:s3cret@x.upstash.io:6379", TOKEN)
    with pytest.raises(SettingsError):
        UpstashRedis(URL, "s3cret token")


def test_an_endpoint_that_repeats_the_token_does_not_put_it_into_the_error(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL, status=401, json={"error": f"WRONGPASS {TOKEN} is not known"})
    with pytest.raises(AuthenticationError, match=r"WRONGPASS \*\*\* is not known"):
        redis.ping()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ERR one\nERROR two\r\x1b[2J\u202e", r"ERR one ERROR two \x1b[2J\u202e"),
        ("ERR " + "wait " * 1000, ("ERR " + "wait " * 100)[:500] + "…"),
        ("", "refused without a reason (HTTP status 400)"),
    ],
)
def test_an_error_text_is_one_readable_line(
    mocked: Any, redis: UpstashRedis, text: str, shown: str
) -> None:
    mocked.post(URL, status=400, json={"error": text})
    with pytest.raises(ResponseError) as caught:
        redis.ping()
    assert str(caught.value) == shown


COMMANDS = {
    name: function
    for name, function in vars(commands).items()
    if inspect.isfunction(function)
    and str(function.__annotations__.get("return")).startswith("upstash_state.commands.Command")
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("owner", [UpstashRedis, Pipeline])
def test_a_command_is_a_method_with_its_signature_and_docstring(
    owner: type, name: str, mocked: Any, redis: UpstashRedis
) -> None:
    command = inspect.signature(COMMANDS[name])
    method = getattr(owner, name)
    signature = inspect.signature(method)

    assert (method.__name__, method.__qualname__) == (name, f"{owner.__name__}.{name}")
    assert inspect.getdoc(method) == inspect.getdoc(COMMANDS[name])
    assert list(signature.parameters.values())[1:] == list(command.parameters.values())
    bound = inspect.signature(method.__get__(redis))
    assert bound.parameters == command.parameters
    returned = Pipeline if owner is Pipeline else get_args(command.return_annotation)[0]
    hints = get_type_hints(method)
    assert hints == {**get_type_hints(COMMANDS[name]), "return": returned}


def test_help_shows_what_a_command_takes_and_gives() -> None:
    text = pydoc.render_doc(UpstashRedis, renderer=pydoc.plaintext)
    # Newer Pythons put the arguments on lines of their own.
    shown = r" get\(\W*self,\W*name: [^)]*\) -> str \| None\n.*Return the value of a key"
    assert re.search(shown, text)


def test_a_mock_of_the_client_knows_the_commands() -> None:
    mock = create_autospec(UpstashRedis, instance=True)
    mock.get("k")
    with pytest.raises(TypeError, match="name"):
        mock.get()


def test_what_only_help_needs_is_not_imported_before_it_is_asked_for() -> None:
    # Newer Pythons import it for logging.
    program = "import logging, sys; known = set(sys.modules); import upstash_state; "
    program += "print('inspect' in set(sys.modules) - known)"
    command = [sys.executable, "-c", program]
    assert subprocess.check_output(command, text=True, timeout=60).strip() == "False"


class Key(str, Enum):
    VISITS = "visits"


class Size(IntEnum):
    LARGE = 40


class Rate(float, Enum):
    FULL = 0.19


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (Key.VISITS, "visits"),
        (Size.LARGE, "40"),
        (Rate.FULL, "0.19"),
        (bytearray(b"visits"), "visits"),
        (memoryview(b"visits"), "visits"),
        (1e16, "1e+16"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_is_sent_as_redis_py_sends_it_an_enum_as_its_value(
    mocked: Any, redis: UpstashRedis, argument: Any, text: str
) -> None:
    mocked.post(URL, json={"result": "OK"})
    redis.set(argument, argument)
    assert sent(mocked) == ["SET", text, text]
    mocked.post(URL, json={"result": [None]})
    redis.mget(argument)
    assert sent(mocked) == ["MGET", text]


def test_an_int_that_python_does_not_write_is_refused(redis: UpstashRedis) -> None:
    with pytest.raises(DataError, match="Exceeds the limit"):
        redis.set("k", 10**5000)


def test_errors_have_one_root() -> None:
    assert issubclass(ResponseError, UpstashError)
    assert issubclass(UnavailableError, UpstashError)
    assert not issubclass(ResponseError, UnavailableError)


def scanning(pages: Iterator[tuple[int | str, list[str]]]) -> AbstractContextManager[None]:
    """Answer each SCAN with the next page, and everything else with null."""

    def one(command: list[str]) -> Any:
        if command[0] == "SCAN":
            return next(pages)
        return [None] * len(command[1:]) if command[0] == "MGET" else None

    def interceptor(endpoint: Endpoint, send: Send) -> Send:
        def answer(path: str, body: bytes, deadline: float) -> Answer:
            sent = json.loads(body)
            said = [{"result": one(command)} for command in (sent if path != "/" else [sent])]
            return Answer(200, {}, json.dumps(said if path != "/" else said[0]).encode())

        return answer

    return intercepting(interceptor, simulated=True)


@pytest.mark.parametrize(
    ("keys", "pages"),
    [
        (lambda n: [], 30),
        (lambda n: ["k"], 31),
        (lambda n: [] if n % 2 else ["k", "l"], 31),
        (lambda n: [f"order:{n}"], 100),
        (lambda n: [f"order:{n % 2}"], 100),
    ],
    ids=["no keys", "one key", "one page", "new keys", "two pages"],
)
@pytest.mark.parametrize("call", ["scan_iter", "count", "health", "get_all", "cleanup"])
def test_a_walk_of_ever_new_cursors_ends(
    keys: Callable[[int], list[str]], pages: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MOST_PAGES", 100)
    monkeypatch.setattr(commands, "MOST_IDLE_PAGES", 30)
    numbers = itertools.count(1)
    client = UpstashRedis(URL, TOKEN)
    store = OrderStore(client)
    calls: dict[str, Callable[[], object]] = {
        "scan_iter": lambda: list(client.scan_iter(count=1000)),
        "count": store.count,
        "health": store.health,
        "get_all": store.get_all,
        "cleanup": lambda: store.delete_older_than(datetime.now(timezone.utc)),
    }
    with scanning((str(number), keys(number)) for number in numbers):
        if call == "health":
            error: object = store.health().error
        else:
            with pytest.raises(UpstashError) as caught:
                calls[call]()
            error = caught.value
    assert "SCAN does not come to an end" in str(error)
    assert pages <= next(numbers) <= pages + 4


def test_a_small_count_has_more_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_IDLE_PAGES", 3)
    numbers = itertools.count(1)
    with scanning((number, []) for number in numbers):
        with pytest.raises(AnswerError, match="301 pages were read, the last 301 without a new"):
            list(UpstashRedis(URL, TOKEN).scan_iter())
        with pytest.raises(AnswerError, match="4 pages were read, the last 4 without a new key"):
            list(UpstashRedis(URL, TOKEN).scan_iter(count=10_000))


def test_pages_without_keys_between_pages_with_keys_are_no_reason_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "MOST_IDLE_PAGES", 3)
    pages = [(n, [f"k{n}"] if n % 4 == 0 else []) for n in range(1, 41)] + [(0, ["last"])]
    with scanning(iter(pages)):
        keys = list(UpstashRedis(URL, TOKEN).scan_iter(count=1000))
    assert keys == [f"k{n}" for n in range(4, 41, 4)] + ["last"]


#: For each command, a call of it, the type of its result, and whether it may be sent twice.
CALLS: dict[str, tuple[Command[Any], Any, bool]] = {
    "ping": (commands.ping(), bool, True),
    "set": (commands.set("k", "v"), bool | None, True),
    "msetex": (commands.msetex({"k": "v"}), bool, True),
    "get": (commands.get("k"), str | None, True),
    "mget": (commands.mget("k", "l"), list, True),
    "delete": (commands.delete("k"), int, True),
    "exists": (commands.exists("k"), int, True),
    "expire": (commands.expire("k", 1), bool, True),
    "ttl": (commands.ttl("k"), int, True),
    "pttl": (commands.pttl("k"), int, True),
    "keys": (commands.keys(), list, True),
    "scan": (commands.scan(), tuple, True),
    "dbsize": (commands.dbsize(), int, True),
    "execute_command": (commands.execute_command("INCR", "n"), Any, False),
}
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2**63, 2**64, 10**400, 1.0, 17.0])
TEXTS = st.text() | st.sampled_from(["OK", "0", "17", "1_0", " 5", "+5", "-1", "\u0665", "9" * 400])
ANSWERS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.tuples(inner, st.lists(inner, max_size=2)).map(list)
    ),
    max_leaves=6,
)


@given(answer=ANSWERS)
@example(answer=[True, []])
@example(answer=[17.0, []])
@example(answer=[float("inf"), []])
@example(answer=[10**400, []])
@example(answer=["9" * 400, []])
@example(answer=[["0"], ["k"]])
@example(answer=True)
@example(answer=10**400)
@example(answer=1.0)
@example(answer=float("nan"))
def test_a_command_reads_any_answer_as_a_result_of_its_type_or_an_error(answer: Any) -> None:
    for name, (command, kind, _) in CALLS.items():
        result = command.read(answer)
        if isinstance(result, UpstashError):
            assert type(result) is AnswerError
            assert result.__traceback__ is result.__context__ is None
            continue
        assert kind is Any or isinstance(result, kind)
        if kind is int:
            assert type(result) is int
            assert -(2**63) <= result < 2**63
        if name == "scan":
            cursor, keys = result
            assert type(cursor) is int
            assert 0 <= cursor < 10**20
            assert all(type(key) is str for key in keys)
        if name in ("mget", "keys"):
            assert all(type(value) in (str, type(None)) for value in result)


def test_the_table_of_calls_has_every_command() -> None:
    assert set(CALLS) == set(COMMANDS)


def test_a_command_says_whether_it_may_be_sent_twice() -> None:
    said = {name: command.repeatable for name, (command, _, _) in CALLS.items()}
    assert said == {name: repeatable for name, (_, _, repeatable) in CALLS.items()}


@given(answer=ANSWERS, status=st.sampled_from([200, 200, 200, 400, 503]))
@settings(max_examples=100)
def test_no_answer_makes_a_store_raise_anything_but_its_own_errors(
    answer: Any, status: int
) -> None:
    def interceptor(endpoint: Endpoint, send: Send) -> Send:
        def give(path: str, body: bytes, deadline: float) -> Answer:
            said: Any = {"result": answer}
            said = [said] * len(json.loads(body)) if path != "/" else said
            return Answer(status, {}, json.dumps(said).encode())

        return give

    reset_client(flush=False)
    store = OrderStore(UpstashRedis(URL, TOKEN, timeout=1))
    order = {"name": "Zoë"}
    calls: list[Callable[[], object]] = [
        lambda: store.save("1", order),
        lambda: store.save_many({"1": order, "2": order}),
        lambda: store.delete("1"),
        lambda: store.get("1"),
        store.count,
        store.get_all,
        store.ping,
        lambda: store.delete_older_than(datetime.now(timezone.utc)),
    ]
    with intercepting(interceptor, simulated=True):
        for call in calls:
            with suppress(UpstashError):
                call()
        assert isinstance(store.health(), Health)
    reset_client(flush=False)
