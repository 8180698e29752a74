"""Retries, the time budget, the breaker and the token, without a socket.

What real sockets can do to a call is in test_fault_matrix.py.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import time
import traceback
from typing import Any

import pytest
import requests
import responses
import urllib3

from tests.support.environ import TOKEN, URL
from tests.support.sending import run
from upstash_state import commands
from upstash_state.errors import (
    AnswerTooLargeError,
    CircuitOpenError,
    EndpointTimeoutError,
    ResponseError,
    UnavailableError,
)
from upstash_state.settings import check_token
from upstash_state.transport import Transport
from upstash_state.transport.budget import time_budget
from upstash_state.transport.deadline import MAX_ANSWER_BYTES


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, each as long as it may be, and none of them waited for."""
    waits: list[float] = []
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


@pytest.fixture
def transport(waits: list[float]) -> Transport:
    return Transport(URL, check_token(TOKEN), timeout=5)


PASSING = [408, 429, 500, 502, 503, 504]


@pytest.mark.parametrize("status", PASSING)
def test_a_transient_status_is_retried(
    mocked: Any, transport: Transport, waits: list[float], status: int
) -> None:
    mocked.post(URL, status=status, body="<html>")
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"
    assert waits == [0.1]


def test_pauses_double_and_end_after_three_retries(
    mocked: Any, transport: Transport, waits: list[float]
) -> None:
    mocked.post(URL, status=503)
    with pytest.raises(UnavailableError, match="HTTP status 503"):
        run(transport, commands.get("k"))
    assert waits == [0.1, 0.2, 0.4]
    assert len(mocked.calls) == 4


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError(ConnectionRefusedError(111, "Connection refused")),
        requests.exceptions.ChunkedEncodingError("truncated"),
        requests.ReadTimeout(),
    ],
)
def test_a_broken_connection_is_retried(
    mocked: Any, transport: Transport, error: Exception
) -> None:
    mocked.post(URL, body=error)
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (http.client.RemoteDisconnected("Remote end closed"), "closed without an answer"),
        (http.client.IncompleteRead(b"x", 7), "closed in the middle of the answer"),
        (http.client.BadStatusLine("SSH-2.0"), r"what came back is not HTTP \(BadStatusLine\)"),
    ],
)
def test_a_broken_connection_is_explained(
    mocked: Any, transport: Transport, cause: Exception, shown: str
) -> None:
    error = urllib3.exceptions.ProtocolError("Connection aborted.", cause)
    mocked.post(URL, body=requests.ConnectionError(error))
    with pytest.raises(UnavailableError, match=f"connection to the endpoint failed: {shown}$"):
        run(transport, commands.get("k"))


@pytest.mark.parametrize(("status", "tries"), [(500, 1), (502, 1), (503, 1), (504, 1), (429, 2)])
def test_an_unrepeatable_command_is_retried_only_if_it_was_not_executed(
    mocked: Any, transport: Transport, status: int, tries: int
) -> None:
    mocked.assert_all_requests_are_fired = False
    mocked.post(URL, status=status)
    mocked.post(URL, json={"result": 1})
    with contextlib.suppress(UnavailableError):
        run(transport, commands.execute_command("INCR", "n"))
    assert len(mocked.calls) == tries


def test_retry_after_is_honoured_when_it_fits_the_budget(
    mocked: Any, transport: Transport, waits: list[float]
) -> None:
    mocked.post(URL, status=429, headers={"Retry-After": "3"})
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"
    assert waits == [3]


def test_retry_after_may_be_a_date(mocked: Any, transport: Transport, waits: list[float]) -> None:
    date = email.utils.formatdate(time.time() + 3, usegmt=True)
    mocked.post(URL, status=503, headers={"Retry-After": date})
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"
    assert waits == [pytest.approx(3, abs=1.1)]


@pytest.mark.parametrize("after", ["5", "3600", "9" * 30, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_the_budget_is_given_up_at_once(
    mocked: Any, transport: Transport, waits: list[float], after: str
) -> None:
    mocked.post(URL, status=429, headers={"Retry-After": after})
    with pytest.raises(UnavailableError, match="429"):
        run(transport, commands.get("k"))
    assert (len(mocked.calls), waits) == (1, [])


@pytest.mark.parametrize(
    "after",
    ["soon", "-1", "1.5", "9" * 5000, "²", "Fri, 31 Dec 99999 0:0:0 GMT", "", "0"],
)
def test_an_invalid_retry_after_is_ignored(
    mocked: Any, transport: Transport, waits: list[float], after: str
) -> None:
    mocked.post(URL, status=429, headers={"Retry-After": after})
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"
    assert waits == [0.1]


def test_a_pause_that_does_not_fit_is_not_started(mocked: Any, waits: list[float]) -> None:
    transport = Transport(URL, check_token(TOKEN), timeout=0.05)
    mocked.post(URL, status=503)
    with pytest.raises(UnavailableError):
        run(transport, commands.get("k"))
    assert waits == []


def test_nothing_is_sent_once_the_budget_is_used_up(mocked: Any, transport: Transport) -> None:
    with time_budget(0):
        for _ in range(5):
            with pytest.raises(EndpointTimeoutError, match="not asked"):
                run(transport, commands.get("k"))
    assert len(mocked.calls) == 0
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        ({"status": 503}, 3),
        ({"status": 520}, 3),
        ({"body": requests.ReadTimeout()}, 5),
    ],
)
def test_in_a_short_budget_only_timeouts_do_not_open_the_circuit(
    mocked: Any, transport: Transport, failure: dict[str, Any], calls: int
) -> None:
    mocked.post(URL, **failure)
    asked = 0
    for _ in range(5):
        with time_budget(transport.timeout / 2):
            try:
                run(transport, commands.get("k"))
            except CircuitOpenError:
                break
            except UnavailableError:
                asked += 1
    assert asked == calls


def test_an_answer_beyond_all_limits_is_given_up(
    mocked: Any, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upstash_state.transport.http.MAX_ANSWER_BYTES", 1000)
    mocked.post(URL, body="x" * 1001)
    with pytest.raises(AnswerTooLargeError):
        run(transport, commands.get("k"))


def test_an_answer_announced_beyond_all_limits_is_not_read(
    mocked: Any, transport: Transport
) -> None:
    mocked.post(
        URL,
        body="x",
        headers={"Content-Length": str(MAX_ANSWER_BYTES + 1)},
        auto_calculate_content_length=False,
    )
    with pytest.raises(AnswerTooLargeError):
        run(transport, commands.get("k"))


def calls(transport: Transport, times: int) -> set[type[Exception]]:
    """The classes of the errors of so many calls."""
    raised = set()
    for _ in range(times):
        with pytest.raises((UnavailableError, ResponseError)) as caught:
            run(transport, commands.get("k"))
        raised.add(type(caught.value))
    return raised


def test_failures_open_the_circuit(mocked: Any, waits: list[float]) -> None:
    now = [0.0]
    transport = Transport(
        URL,
        check_token(TOKEN),
        timeout=5,
        clock=lambda: now[0],
    )
    mocked.post(URL, body="<html>")
    calls(transport, 3)
    asked = len(mocked.calls)
    assert calls(transport, 2) == {CircuitOpenError}
    assert len(mocked.calls) == asked
    mocked.replace(responses.POST, URL, json={"result": "v"})
    now[0] = 5
    assert run(transport, commands.get("k")) == "v"
    assert run(transport, commands.get("k")) == "v"


@pytest.mark.parametrize(
    "answer",
    [
        {"body": requests.ConnectionError(ConnectionRefusedError(111, "Connection refused"))},
        {"body": requests.ReadTimeout()},
        {"body": "<html>"},
        # Where a captive portal or another address answers, all calls fail.
        {"status": 302},
        {"status": 401, "body": "<html>"},
        {"status": 401, "json": {"error": "Unauthorized"}},
        {"status": 400, "json": {"error": "WRONGPASS invalid or missing auth token"}},
        *({"status": status} for status in (408, 500, 501, 502, 503, 504, 520, 530)),
    ],
    ids=repr,
)
def test_an_answer_that_every_call_would_get_opens_the_circuit(
    mocked: Any, transport: Transport, answer: dict[str, Any]
) -> None:
    mocked.post(URL, **answer)
    calls(transport, 3)
    assert calls(transport, 1) == {CircuitOpenError}


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 400, "json": {"error": "ERR syntax error"}},
        {"status": 403, "json": {"error": "NOPERM no permission"}},
        *(
            {"status": status, "body": "<html>"}
            for status in (400, 402, 403, 404, 405, 406, 409, 413, 414, 415, 422, 431, 451)
        ),
    ],
    ids=repr,
)
def test_a_refusal_of_one_request_does_not_open_the_circuit(
    mocked: Any, transport: Transport, answer: dict[str, Any]
) -> None:
    mocked.post(URL, **answer)
    assert CircuitOpenError not in calls(transport, 5)
    mocked.replace(responses.POST, URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"


def test_a_gateways_refusal_says_nothing_of_the_endpoint(mocked: Any, waits: list[float]) -> None:
    now = [0.0]
    transport = Transport(URL, check_token(TOKEN), timeout=5, clock=lambda: now[0])
    mocked.post(URL, body="<html>")
    calls(transport, 2)
    mocked.replace(responses.POST, URL, status=403)
    calls(transport, 1)
    mocked.replace(responses.POST, URL, body="<html>")
    calls(transport, 1)
    assert calls(transport, 1) == {CircuitOpenError}
    # A probe that is refused is followed by another.
    now[0] = 5
    mocked.replace(responses.POST, URL, status=403)
    assert CircuitOpenError not in calls(transport, 2)


def test_after_an_interrupted_probe_comes_another(mocked: Any, waits: list[float]) -> None:
    now = [0.0]
    transport = Transport(
        URL,
        check_token(TOKEN),
        timeout=5,
        clock=lambda: now[0],
    )
    mocked.post(URL, body="<html>")
    for _ in range(3):
        with pytest.raises(UnavailableError):
            run(transport, commands.get("k"))
    mocked.reset()
    now[0] = 5

    def interrupt(request: Any) -> Any:
        raise KeyboardInterrupt

    mocked.add_callback(responses.POST, URL, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(transport, commands.get("k"))
    mocked.reset()
    mocked.post(URL, json={"result": "v"})
    assert run(transport, commands.get("k")) == "v"


@pytest.mark.parametrize(
    "outcome",
    [
        {"status": 503},
        {"body": requests.ConnectionError("refused")},
        {"status": 401, "json": {"error": "WRONGPASS"}},
        {"body": "garbage"},
    ],
)
def test_a_traceback_with_local_variables_does_not_show_the_token(
    mocked: Any, transport: Transport, outcome: dict[str, Any]
) -> None:
    mocked.post(URL, **outcome)
    with pytest.raises((UnavailableError, ResponseError)) as caught:
        run(transport, commands.get("k"))
    text = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert "in run\n" in text
    assert TOKEN not in text
    chain = caught.value.__cause__ or caught.value.__context__
    assert chain is None


def test_bodies_are_utf_8_and_not_escaped(mocked: Any, transport: Transport) -> None:
    mocked.post(URL, json={"result": "OK"})
    run(transport, commands.set("k", "Zoë 🍕"))
    body = mocked.calls[0].request.body
    assert "Zoë 🍕".encode() in body
    assert json.loads(body) == ["SET", "k", "Zoë 🍕"]
