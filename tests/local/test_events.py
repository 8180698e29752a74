"""`/subscribe`, `/psubscribe` and `/monitor`: server-sent events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.local.talk import DEADLINE, ask, send
from tests.support.faults import Certificates
from upstash_state.local import LocalEndpoint


@contextmanager
def events(endpoint: LocalEndpoint, path: str, token: str | None = None) -> Iterator[Iterator[str]]:
    """Lines of an event stream, without the empty ones between events."""
    with requests.post(
        endpoint.url + path,
        # As Upstash's SDK for JavaScript sends it.
        data=b"[]",
        headers={
            "Authorization": f"Bearer {token or endpoint.token}",
            "Accept": "text/event-stream",
        },
        stream=True,
        timeout=DEADLINE,
    ) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield (line.decode() for line in answer.iter_lines(chunk_size=1) if line)


def until(endpoint: LocalEndpoint, subscribers: int) -> None:
    """Wait until a channel named `chat` has so many subscribers."""
    deadline = time.monotonic() + DEADLINE
    while ask(endpoint, "PUBSUB", "NUMSUB", "chat") != {"result": ["chat", subscribers]}:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_subscriber_hears_what_is_published(either_endpoint: LocalEndpoint) -> None:
    with events(either_endpoint, "/subscribe/chat") as lines:
        assert next(lines) == "data: subscribe,chat,1"
        assert ask(either_endpoint, "PUBLISH", "chat", 'Jürgen, {"a": 1}') == {"result": 1}
        assert send(either_endpoint, None, "/publish/chat/two").json() == {"result": 1}
        assert next(lines) == 'data: message,chat,Jürgen, {"a": 1}'
        assert next(lines) == "data: message,chat,two"


def test_several_channels_and_patterns(either_endpoint: LocalEndpoint) -> None:
    with events(either_endpoint, "/subscribe/a/b") as lines:
        assert [next(lines), next(lines)] == ["data: subscribe,a,1", "data: subscribe,b,2"]
    with events(either_endpoint, "/psubscribe/news%3A*") as lines:
        assert next(lines) == "data: psubscribe,news:*,1"
        ask(either_endpoint, "PUBLISH", "news:art", "hello")
        assert next(lines) == "data: pmessage,news:*,news:art,hello"


def test_lines_of_a_message_stay_one_event(either_endpoint: LocalEndpoint) -> None:
    with events(either_endpoint, "/subscribe/chat") as lines:
        next(lines)
        ask(either_endpoint, "PUBLISH", "chat", "one\r\ntwo\u2028still two\n")
        assert [next(lines), next(lines), next(lines)] == [
            "data: message,chat,one",
            "data: two\u2028still two",
            "data: ",
        ]


def test_one_that_goes_away_is_no_subscriber_any_more(either_endpoint: LocalEndpoint) -> None:
    with events(either_endpoint, "/subscribe/chat") as lines:
        next(lines)
        until(either_endpoint, 1)
    until(either_endpoint, 0)
    assert ask(either_endpoint, "PING") == {"result": "PONG"}


def test_the_monitor_shows_commands(real_endpoint: LocalEndpoint) -> None:
    with events(real_endpoint, "/monitor") as lines:
        assert next(lines) == 'data: "OK"'
        ask(real_endpoint, "SET", "k", "a b")
        assert next(lines).endswith('] "SET" "k" "a b"')


def test_over_fakeredis_there_is_no_monitor(endpoint: LocalEndpoint) -> None:
    answer = send(endpoint, None, "/monitor")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("ERR fakeredis has no MONITOR")


@pytest.mark.parametrize("path", ["/subscribe/chat", "/psubscribe/*", "/monitor"])
def test_not_with_the_read_only_token(endpoint: LocalEndpoint, path: str) -> None:
    read_only = f"Bearer {endpoint.read_only_token}"
    answer = send(endpoint, None, path, authorization=read_only)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("NOPERM ")


def test_what_redis_refuses_is_not_a_stream(either_endpoint: LocalEndpoint) -> None:
    answer = send(either_endpoint, None, "/subscribe")
    assert answer.status_code == 400
    assert "wrong number of arguments" in answer.json()["error"]


def test_head_asks_for_no_stream(endpoint: LocalEndpoint) -> None:
    assert send(endpoint, None, "/subscribe/chat", method="HEAD").status_code == 400


def test_a_silent_client_over_tls_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upstash_state.local.redis._LISTEN_SECONDS", 0.001)
    certificates = Certificates(tmp_path)
    with LocalEndpoint(tls=certificates.right) as endpoint:

        def get(path: str, stream: bool = False) -> requests.Response:
            return requests.get(
                endpoint.url + path,
                headers={"Authorization": f"Bearer {endpoint.token}"},
                verify=str(certificates.bundle),
                stream=stream,
                timeout=DEADLINE,
            )

        with get("/subscribe/chat", stream=True) as answer:
            lines = (line for line in answer.iter_lines(chunk_size=1) if line)
            assert next(lines) == b"data: subscribe,chat,1"
            for _ in range(20):
                assert get("/pubsub/numsub/chat").json() == {"result": ["chat", 1]}
            get("/publish/chat/one")
            assert next(lines) == b"data: message,chat,one"


def test_closing_the_endpoint_ends_a_stream(either_endpoint: LocalEndpoint) -> None:
    threads = set(threading.enumerate())
    with events(either_endpoint, "/subscribe/chat") as lines:
        next(lines)
        either_endpoint.close()
        assert list(lines) == []
    assert set(threading.enumerate()) <= threads


def test_usage_counts_events(endpoint: LocalEndpoint) -> None:
    with events(endpoint, "/subscribe/chat") as lines:
        next(lines)
        before = endpoint.usage()
        assert (before.requests, before.commands) == (1, 1)
        ask(endpoint, "PUBLISH", "chat", "x" * 1000)
        next(lines)
    assert endpoint.usage().bytes_sent > before.bytes_sent + 1000
