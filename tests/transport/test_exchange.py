"""What one exchange returns and raises, and what it says of attempts that were given up."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.support.environ import TOKEN, URL
from upstash_state import (
    AnswerError,
    BudgetError,
    DataError,
    ResponseError,
    UnavailableError,
    UpstashRedis,
    WrongTypeError,
    commands,
    time_budget,
)
from upstash_state.transport import COMMAND, PIPELINE, TRANSACTION

WRONGTYPE = {"error": "WRONGTYPE Operation against a key holding the wrong kind of value"}


@pytest.fixture
def redis() -> UpstashRedis:
    return UpstashRedis(URL, TOKEN)


@pytest.mark.parametrize("path", [PIPELINE, TRANSACTION])
def test_each_command_has_its_result_or_its_error(
    mocked: Any, redis: UpstashRedis, path: str
) -> None:
    answers = [{"result": "OK"}, WRONGTYPE, {"result": "seven"}, {"result": 7}]
    mocked.post(URL + path, json=answers)
    sent = [commands.set("a", 1), commands.get("b"), commands.ttl("c"), commands.ttl("d")]
    results, latency, abandoned = redis.exchange(sent, path=path)
    assert results[0] is True
    assert type(results[1]) is WrongTypeError
    assert type(results[2]) is AnswerError
    assert results[3] == 7
    assert 0 < latency < 5
    assert abandoned is False


def test_a_single_command_raises_its_refusal(mocked: Any, redis: UpstashRedis) -> None:
    mocked.post(URL, json={"result": "v"})
    assert redis.exchange([commands.get("k")], path=COMMAND).results == ["v"]
    mocked.replace("POST", URL, json=WRONGTYPE)
    with pytest.raises(WrongTypeError) as caught:
        redis.exchange([commands.get("k")], path=COMMAND)
    assert caught.value.may_have_executed is False


def test_a_request_refused_as_a_whole_raises(mocked: Any, redis: UpstashRedis) -> None:
    mocked.post(URL + "/pipeline", json={"error": "ERR no"}, status=400)
    with pytest.raises(ResponseError, match="no"):
        redis.exchange([commands.get("a"), commands.get("b")])


@pytest.mark.parametrize("failure", [503, requests.ReadTimeout()])
def test_an_abandoned_attempt_is_reported(mocked: Any, redis: UpstashRedis, failure: Any) -> None:
    how: dict[str, Any] = {"body": failure} if isinstance(failure, Exception) else {"status": 503}
    mocked.post(URL + "/pipeline", **how)
    mocked.post(URL + "/pipeline", json=[{"result": "OK"}, WRONGTYPE])
    results, _, abandoned = redis.exchange([commands.set("a", 1), commands.get("b")])
    assert abandoned is True
    assert results[1].may_have_executed is True


def test_an_attempt_that_was_not_executed_is_not_abandoned(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL, status=429, headers={"Retry-After": "0"})
    mocked.post(URL, json={"result": "OK"})
    assert redis.exchange([commands.set("a", 1)], path=COMMAND).abandoned is False


def test_a_refusal_after_an_abandoned_attempt_may_have_executed(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL, status=503)
    mocked.post(URL, status=401, json={"error": "Unauthorized"})
    with pytest.raises(ResponseError) as caught:
        redis.set("a", 1)
    assert caught.value.may_have_executed is True
    # The next exchange begins from nothing.
    with pytest.raises(ResponseError) as caught:
        redis.set("a", 1)
    assert caught.value.may_have_executed is False


def test_a_failure_after_an_abandoned_attempt_may_have_executed(
    mocked: Any, redis: UpstashRedis
) -> None:
    mocked.post(URL, status=503)
    mocked.post(URL, status=429, headers={"Retry-After": "60"})
    with pytest.raises(UnavailableError, match="429") as caught:
        redis.set("a", 1)
    assert caught.value.may_have_executed is True


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_names_the_command_and_tells_whether_it_may_have_executed(
    mocked: Any, redis: UpstashRedis, transaction: bool
) -> None:
    url = URL + ("/multi-exec" if transaction else "/pipeline")
    mocked.post(url, status=503)
    mocked.post(url, json=[WRONGTYPE])
    with pytest.raises(WrongTypeError, match=r"command 1 \(GET\)") as caught:
        redis.pipeline(transaction).get("a").execute()
    assert caught.value.may_have_executed is True


def test_a_deadline_only_shortens(mocked: Any, redis: UpstashRedis) -> None:
    ping = [commands.ping()]
    mocked.post(URL, json={"result": "PONG"})
    with pytest.raises(BudgetError) as caught:
        redis.exchange(ping, path=COMMAND, deadline=time.monotonic() - 1)
    assert caught.value.may_have_executed is False
    with time_budget(0), pytest.raises(BudgetError):
        redis.exchange(ping, path=COMMAND, deadline=time.monotonic() + 60)
    assert redis.exchange(ping, path=COMMAND, deadline=time.monotonic() + 60).results == [True]


def test_an_argument_that_cannot_be_sent_was_not_executed() -> None:
    with pytest.raises(DataError) as caught:
        commands.get(None)  # type: ignore[arg-type]
    assert caught.value.may_have_executed is False


def test_an_empty_pipeline_is_true(redis: UpstashRedis) -> None:
    pipe = redis.pipeline()
    assert (pipe or redis) is pipe
    assert len(pipe) == 0
    assert pipe.execute() == []
