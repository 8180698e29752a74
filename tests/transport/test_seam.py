"""What wraps the attempts of this process: recordings, simulated faults, counters."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import Any

import pytest
import responses

from tests.support.environ import URL
from upstash_state import ResponseError, UnavailableError, UpstashRedis
from upstash_state.errors import CircuitOpenError, NotRecordedError
from upstash_state.local import LocalEndpoint
from upstash_state.transport import Answer, Endpoint, Send, guarding, intercepting
from upstash_state.transport.seam import one_by_one

OK = Answer(200, {}, b'{"result": "OK"}')


@pytest.fixture
def redis() -> UpstashRedis:
    return UpstashRedis(URL, "s3cret-token")


def answering(answer: Answer) -> Any:
    return lambda wire, send: lambda path, body, deadline: answer


def failing(**facts: Any) -> Any:
    def interceptor(wire: Endpoint, send: Send) -> Send:
        def fail(path: str, body: bytes, deadline: float) -> Answer:
            attempts.append(path)
            raise UnavailableError("simulated", **facts)

        return fail

    attempts: list[str] = []
    interceptor.attempts = attempts  # type: ignore[attr-defined]
    return interceptor


def test_an_interceptor_answers_instead_of_the_endpoint(redis: UpstashRedis) -> None:
    asked = []

    def interceptor(wire: Endpoint, send: Send) -> Send:
        def answer(path: str, body: bytes, deadline: float) -> Answer:
            asked.append((wire.url, wire.token.reveal(), path, json.loads(body)))
            return OK

        return answer

    with intercepting(interceptor):
        assert redis.set("k", "v")
    assert asked == [(URL, "s3cret-token", "/", ["SET", "k", "v"])]


def test_the_innermost_interceptor_is_the_last_before_http(redis: UpstashRedis) -> None:
    order = []

    def named(name: str) -> Any:
        def interceptor(wire: Endpoint, send: Send) -> Send:
            def pass_on(path: str, body: bytes, deadline: float) -> Answer:
                order.append(name)
                return send(path, body, deadline)

            return pass_on

        return interceptor

    with responses.RequestsMock() as mock, intercepting(named("outer")):
        mock.post(URL, json={"result": "PONG"})
        with intercepting(named("inner")):
            redis.ping()
        redis.ping()
    assert order == ["outer", "inner", "outer"]
    with intercepting(answering(OK)):
        redis.set("k", "v")
    assert len(order) == 3


def test_blocks_may_end_in_any_order(redis: UpstashRedis) -> None:
    # The outermost block answers.
    good, refusing = answering(OK), answering(Answer(400, {}, b'{"error": "ERR no"}'))
    first, second, third = map(intercepting, (good, refusing, good))
    for block in (first, second, third):
        block.__enter__()
    third.__exit__(None, None, None)
    assert redis.set("k", "v")
    first.__exit__(None, None, None)
    with pytest.raises(ResponseError):
        redis.set("k", "v")
    second.__exit__(None, None, None)
    with responses.RequestsMock() as mock:
        mock.post(URL, json={"result": "PONG"})
        assert redis.ping()


def test_a_simulated_endpoint_has_no_pauses_and_its_own_circuit(
    redis: UpstashRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))
    outage = failing(reason="connect", transient=True)
    with intercepting(outage, simulated=True):
        for _ in range(3):
            with contextlib.suppress(UnavailableError):
                redis.get("k")
        assert len(outage.attempts) == 12
        with pytest.raises(CircuitOpenError):
            redis.get("k")
    with intercepting(answering(OK)):
        assert redis.get("k") == "OK"


def test_an_attempt_is_retried_by_the_attributes_of_its_error(redis: UpstashRedis) -> None:
    refused = failing(transient=False)
    executed = failing(transient=True, may_have_executed=True)
    with intercepting(refused, simulated=True), pytest.raises(UnavailableError):
        redis.get("k")
    with intercepting(executed, simulated=True), pytest.raises(UnavailableError):
        redis.execute_command("INCR", "n")
    assert len(refused.attempts) == len(executed.attempts) == 1


def test_saves_go_one_by_one_while_any_block_asks_for_it() -> None:
    assert not one_by_one()
    with intercepting(answering(OK), one_by_one=True):
        with intercepting(answering(OK)):
            assert one_by_one()
        assert one_by_one()
    with intercepting(answering(OK), simulated=True):
        assert not one_by_one()


class Guard:
    """Refuses all connections, and remembers to which host and in which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, threading.Thread]] = []

    def __call__(self, host: str) -> None:
        self.asked.append((host, threading.current_thread()))
        raise NotRecordedError("refused")


def test_a_guard_is_asked_before_each_connection_in_the_callers_thread(
    endpoint: LocalEndpoint,
) -> None:
    guard = Guard()
    redis = UpstashRedis(endpoint.url, endpoint.token)
    with guarding(guard), pytest.raises(NotRecordedError):
        redis.ping()
    assert guard.asked == [("127.0.0.1", threading.current_thread())]
    assert endpoint.usage().requests == 0
    assert redis.ping()
    # Also before a kept connection is used.
    with guarding(guard), pytest.raises(NotRecordedError):
        redis.ping()
    assert endpoint.usage().requests == 1
    assert len(guard.asked) == 2
    assert redis.ping()


def test_a_guard_is_asked_for_the_endpoint_and_not_for_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    guard = Guard()
    with guarding(guard), pytest.raises(NotRecordedError):
        UpstashRedis(URL, "s3cret-token").ping()
    assert [host for host, _ in guard.asked] == ["test.upstash.io"]


def test_an_interceptor_or_a_mock_needs_no_connection(redis: UpstashRedis) -> None:
    with guarding(Guard()):
        with intercepting(answering(OK)):
            assert redis.get("k") == "OK"
        with responses.RequestsMock() as mock:
            mock.post(URL, json={"result": "PONG"})
            assert redis.ping()


def test_guards_with_the_same_check_end_one_by_one(redis: UpstashRedis) -> None:
    guard = Guard()
    with guarding(guard):
        with guarding(guard):
            pass
        with pytest.raises(NotRecordedError):
            redis.ping()


def test_a_guard_is_asked_before_the_first_connection() -> None:
    code = f"""
from upstash_state import UpstashRedis, UpstashError
from upstash_state.errors import NotRecordedError
from upstash_state.transport import guarding
import socket, sys

def refuse(host):
    raise NotRecordedError(host)

def hook(event, args):
    assert event not in ("socket.connect", "socket.getaddrinfo"), (event, args)

sys.addaudithook(hook)
with guarding(refuse):
    try:
        UpstashRedis({URL!r}, "token").ping()
    except NotRecordedError:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "refused\n"
