"""What the embedded endpoint does wrong on purpose: latency, errors, quota, rate."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.local.talk import connect, raw, send
from upstash_state.local import LocalEndpoint
from upstash_state.local.misbehaviour import Misbehaviour
from upstash_state.local.protocol import Refusal


def status(misbehaviour: Misbehaviour) -> int:
    try:
        misbehaviour.before_request()
    except Refusal as refusal:
        return int(refusal.status)
    return 200


def test_every_request_waits() -> None:
    waited: list[float] = []
    misbehaviour = Misbehaviour(latency=0.15, errors=1, wait=waited.append)
    assert [status(misbehaviour) for _ in range(2)] == [503, 503]
    assert waited == [0.15, 0.15]


def test_close_does_not_wait_for_those_that_wait() -> None:
    threads = set(threading.enumerate())
    with LocalEndpoint(latency=3600) as endpoint, connect(endpoint) as connection:
        connection.sendall(raw("POST", b'["PING"]', ""))
        endpoint.close()
        while connection.recv(65536):
            pass
    assert set(threading.enumerate()) == threads


def test_errors_are_a_share_of_the_requests_and_the_same_in_each_run() -> None:
    both = (Misbehaviour(errors=0.2), Misbehaviour(errors=0.2))
    runs = [[status(misbehaviour) for _ in range(1000)] for misbehaviour in both]
    assert runs[0] == runs[1]
    assert 150 < runs[0].count(503) < 250
    assert runs[0].count(200) + runs[0].count(503) == 1000


@pytest.mark.parametrize(("share", "first"), [(0.1, 20), (0.2, 10), (0.5, 10)])
def test_the_share_is_about_right_from_the_first_few_requests_on(share: float, first: int) -> None:
    misbehaviour = Misbehaviour(errors=share)
    failed = [status(misbehaviour) for _ in range(first)].count(503)
    assert 1 <= failed <= first * share + 2


def test_an_error_executes_nothing() -> None:
    with LocalEndpoint(errors=1) as endpoint:
        answer = send(endpoint, ["SET", "k", "v"])
        assert (answer.status_code, answer.json()) == (503, {"error": "ERR failed on purpose"})
        assert endpoint.usage().commands == 0
        assert endpoint.usage().requests == 1


def test_requests_beyond_the_rate_are_refused_until_the_second_is_over() -> None:
    now = [100.0]
    misbehaviour = Misbehaviour(rps=2, clock=lambda: now[0])
    assert [status(misbehaviour) for _ in range(4)] == [200, 200, 429, 429]
    now[0] = 100.99
    assert status(misbehaviour) == 429
    now[0] = 101.0
    assert [status(misbehaviour) for _ in range(3)] == [200, 200, 429]


def test_a_429_says_when_to_come_back() -> None:
    with LocalEndpoint(rps=1) as endpoint:
        answers = [send(endpoint, ["PING"]) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert answers[0].json() == {"result": "PONG"}


def test_the_quota_is_used_up_by_commands() -> None:
    used_up = {"error": "ERR max requests limit exceeded. Limit: 3"}
    with LocalEndpoint(quota=3) as endpoint:
        commands = [["SET", "k", "v"], ["NOT A COMMAND"], ["GET", "k"]]
        answers = send(endpoint, commands, "/pipeline").json()
        assert [answers[0], answers[2]] == [{"result": "OK"}, {"result": "v"}]
        answers = send(endpoint, [["GET", "k"]] * 2, "/pipeline").json()
        assert answers == [{"result": "v"}, used_up]
        answer = send(endpoint, ["GET", "k"])
        assert (answer.status_code, answer.json()) == (400, used_up)
        assert endpoint.usage().commands == 3


def test_a_transaction_over_the_quota_is_discarded_as_a_whole() -> None:
    with LocalEndpoint(quota=2) as endpoint:
        answer = send(endpoint, [["SET", "k", "v"]] * 3, "/multi-exec")
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("ERR max requests limit exceeded")
        assert endpoint.usage().commands == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalEndpoint(latency=-1),
        # What no thread can wait.
        lambda: LocalEndpoint(latency=float("nan")),
        lambda: LocalEndpoint(latency=float("inf")),
        lambda: LocalEndpoint(errors=-0.1),
        lambda: LocalEndpoint(errors=20),
        lambda: LocalEndpoint(quota=-1),
        lambda: LocalEndpoint(rps=0),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], LocalEndpoint]) -> None:
    with pytest.raises(ValueError, match="errors 0 to 1"):
        make()
