"""The walk over SCAN and MGET, against answers that a real database gives only now and then."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
import responses
from responses import matchers

from tests.support.environ import URL
from upstash_state import (
    AuthenticationError,
    OrderStore,
    RestoreError,
    UnavailableError,
    UpstashRedis,
    time_budget,
)
from upstash_state.local import LocalEndpoint
from upstash_state.restore import begun
from upstash_state.transport import deadline_within

TOO_LARGE = {"error": "ERR max request size exceeded. Limit: 10485760 bytes"}


class Database:
    """Answers SCAN from a script of pages, and MGET from a dict."""

    def __init__(self, pages: list[list[str]], values: dict[str, Any] | None = None) -> None:
        self.pages = pages
        keys = [key for page in pages for key in page]
        self.values = dict.fromkeys(keys, "{}") if values is None else values
        self.most = len(keys)
        self.whole_request_too_large = False
        self.requests: list[Any] = []

    def run(self, command: list[str]) -> dict[str, Any]:
        if command[0] == "SCAN":
            page = int(command[1])
            following = page + 1 if page + 1 < len(self.pages) else 0
            return {"result": [str(following), self.pages[page]]}
        if len(command) - 1 > self.most:
            return TOO_LARGE
        return {"result": [self.values.get(key) for key in command[1:]]}

    def answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        body = json.loads(request.body)
        self.requests.append(body)
        if request.url.endswith("/pipeline"):
            answer: Any = [self.run(command) for command in body]
            if self.whole_request_too_large and TOO_LARGE in answer:
                return 413, {}, ""
        else:
            answer = self.run(body)
        return 200, {}, json.dumps(answer)

    def commands(self) -> list[str]:
        return [
            body[0] if isinstance(body[0], str) else "+".join(command[0] for command in body)
            for body in self.requests
        ]


@pytest.fixture
def mocked_store() -> OrderStore:
    return OrderStore(UpstashRedis(URL, "token"))


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@contextmanager
def mocked(database: Database) -> Iterator[None]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for path in ("/", "/pipeline"):
            mock.add_callback(responses.POST, URL + path, database.answer)
        yield


def restore(mocked_store: OrderStore, database: Database) -> dict[str, Any]:
    with mocked(database):
        return mocked_store.get_all()


def test_each_next_scan_travels_with_the_mget_before(mocked_store: OrderStore) -> None:
    database = Database([["order:1"], ["order:2"], ["order:3"]])
    assert sorted(restore(mocked_store, database)) == ["1", "2", "3"]
    assert database.commands() == ["SCAN", "MGET+SCAN", "MGET+SCAN", "MGET"]
    assert database.requests == [
        _scan("0"),
        [["MGET", "order:1"], _scan("1")],
        [["MGET", "order:2"], _scan("2")],
        ["MGET", "order:3"],
    ]


def test_an_empty_database_costs_one_request(mocked_store: OrderStore) -> None:
    database = Database([[]])
    assert restore(mocked_store, database) == {}
    assert database.commands() == ["SCAN"]


def test_empty_pages_do_not_end_it(mocked_store: OrderStore) -> None:
    database = Database([[], ["order:1"], [], [], ["order:2"], []])
    assert sorted(restore(mocked_store, database)) == ["1", "2"]
    assert database.commands() == ["SCAN", "SCAN", "MGET+SCAN", "SCAN", "SCAN", "MGET+SCAN"]


def test_a_key_that_comes_twice_is_fetched_once(mocked_store: OrderStore) -> None:
    database = Database([["order:1", "order:1"], ["order:2", "order:1"]])
    assert sorted(restore(mocked_store, database)) == ["1", "2"]
    assert database.requests[1][0] == ["MGET", "order:1"]
    assert database.requests[2] == ["MGET", "order:2"]


def test_keys_that_expire_under_way_are_left_out(mocked_store: OrderStore) -> None:
    database = Database([["order:1", "order:gone"]], {"order:1": "{}"})
    assert restore(mocked_store, database) == {"1": {}}


@pytest.mark.parametrize("text", ["", "no json", "[1]", "null", '{"a": ' + "[" * 100_000])
def test_an_unreadable_order_is_skipped_and_named(
    mocked_store: OrderStore, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    database = Database([["order:good", "order:bad"]], {"order:good": "{}", "order:bad": text})
    assert restore(mocked_store, database) == {"good": {}}
    (record,) = caplog.records
    assert record.getMessage().startswith("Failed to get order bad from Redis: ")
    assert record.levelno == logging.ERROR
    assert record.order_id == "bad"  # type: ignore[attr-defined]


@pytest.mark.parametrize("whole_request", [False, True])
@pytest.mark.parametrize("most", [1, 3, 7, 20])
def test_a_batch_over_the_limit_is_halved_until_it_fits(
    mocked_store: OrderStore, most: int, whole_request: bool
) -> None:
    pages = [[f"order:{page}-{i}" for i in range(20)] for page in range(3)]
    database = Database(pages)
    database.most = most
    database.whole_request_too_large = whole_request
    restored = restore(mocked_store, database)
    assert sorted(restored) == sorted(key.removeprefix("order:") for page in pages for key in page)


def test_what_fits_is_remembered_for_the_pages_that_follow(mocked_store: OrderStore) -> None:
    database = Database([[f"order:{page}-{i}" for i in range(16)] for page in range(5)])
    database.most = 4
    restore(mocked_store, database)
    refused = [body for body in database.requests[6:] if len(json.dumps(body)) > 150]
    assert refused == []


def test_one_order_over_the_limit_is_skipped_and_named(
    mocked_store: OrderStore, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database([["order:huge"]])
    database.most = 0
    assert restore(mocked_store, database) == {}
    assert "Failed to get order huge from Redis: ERR max request size" in caplog.text


def test_a_prefix_is_taken_literally() -> None:
    mocked_store = OrderStore(UpstashRedis(URL, "token"), prefix=r"shop[1]*?\:")
    database = Database([["shop[1]*?\\:7"]])
    assert list(restore(mocked_store, database)) == ["7"]
    assert database.requests[0][3] == r"shop\[1\]\*\?\\:*"


def test_only_the_first_prefix_is_taken_off(mocked_store: OrderStore) -> None:
    assert list(restore(mocked_store, Database([["order:order:1"]]))) == ["order:1"]


def test_one_page_is_fetched_ahead_and_no_more(mocked_store: OrderStore) -> None:
    database = Database([["order:1"], ["order:2"], ["order:3"], ["order:4"]])
    with mocked(database):
        orders = mocked_store.iter_all()
        for asked in (3, 4, 5, 5):
            next(orders)
            assert in_time(lambda n=asked: len(database.requests) == n)
        assert list(orders) == []
    assert threads() == []


def test_the_next_page_is_on_its_way_while_one_is_read(mocked_store: OrderStore) -> None:
    database = Database([["order:1"], ["order:2"]])
    with mocked(database):
        orders = mocked_store.iter_all()
        assert next(orders)[0] == "1"
        assert in_time(lambda: database.commands() == ["SCAN", "MGET+SCAN", "MGET"])


def test_what_goes_wrong_ahead_is_raised_when_its_turn_comes(mocked_store: OrderStore) -> None:
    with responses.RequestsMock() as mock:
        mock.post(URL, json={"result": ["7", ["order:1"]]})
        mock.post(URL + "/pipeline", json=[{"result": ["{}"]}, {"result": ["0", ["order:2"]]}])
        mock.post(URL, status=401, json={"error": "WRONGPASS"})
        orders = mocked_store.iter_all()
        assert next(orders) == ("1", {})
        with pytest.raises(RestoreError, match="WRONGPASS"):
            next(orders)
    assert threads() == []


def test_a_time_budget_holds_for_what_is_fetched_ahead(mocked_store: OrderStore) -> None:
    with mocked(Database([["order:1"], ["order:2"]])):
        orders = mocked_store.iter_all()
        walk = mocked_store._walk()
        with time_budget(0):
            assert begun(lambda: deadline_within(60))() < monotonic() + 1
            with pytest.raises(RestoreError):
                list(orders)
            with pytest.raises(UnavailableError):
                list(walk.pages())


def test_a_walk_that_is_given_up_leaves_no_thread(mocked_store: OrderStore) -> None:
    with mocked(Database([["order:1"], ["order:2"], ["order:3"]])):
        orders = mocked_store.iter_all()
        next(orders)
        orders.close()
        assert in_time(lambda: threads() == [])


def test_without_threads_the_next_page_is_fetched_when_it_is_asked_for(
    mocked_store: OrderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert sorted(restore(mocked_store, Database([["order:1"], ["order:2"], ["order:3"]]))) == list(
        "123"
    )


@needs_fork
def test_a_child_of_a_fork_goes_on_reading(mocked_store: OrderStore) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def work() -> int:
        arrived.set()
        go_on.wait(30 if os.getpid() == parent else 0)
        return 7

    parent = os.getpid()
    result = begun(work)
    assert arrived.wait(30)
    if (child := os.fork()) == 0:
        os._exit(result())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    go_on.set()
    assert result() == 7


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "restore" in thread.name]


def in_time(holds: Callable[[], bool]) -> bool:
    deadline = monotonic() + 30
    while not holds() and monotonic() < deadline:
        threading.Event().wait(0.001)
    return holds()


@pytest.mark.parametrize(
    ("failing", "cause"),
    [
        ({"status": 401, "json": {"error": "WRONGPASS"}}, AuthenticationError),
        ({"status": 404}, UnavailableError),
    ],
)
def test_a_restore_that_cannot_be_finished_raises_and_says_why(
    mocked_store: OrderStore, failing: dict[str, Any], cause: type[Exception]
) -> None:
    with responses.RequestsMock() as mock:
        page = {"result": ["7", ["order:1"]]}
        mock.post(URL, json=page, match=[matchers.json_params_matcher(_scan("0"))])
        mock.post(URL + "/pipeline", **failing)
        with pytest.raises(RestoreError) as caught:
            mocked_store.get_all()
    assert isinstance(caught.value.__cause__, cause)


def test_a_refused_scan_within_the_pipeline_fails_the_restore(mocked_store: OrderStore) -> None:
    with responses.RequestsMock() as mock:
        mock.post(URL, json={"result": ["7", ["order:1"]]})
        mock.post(URL + "/pipeline", json=[{"result": ["{}"]}, {"error": "NOPERM no SCAN"}])
        with pytest.raises(RestoreError, match="NOPERM"):
            mocked_store.get_all()


def _scan(cursor: str) -> list[str]:
    return ["SCAN", cursor, "MATCH", "order:*", "COUNT", "1000"]


def test_a_scan_that_goes_in_circles_is_given_up(mocked_store: OrderStore) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.post(URL, json={"result": ["7", []]})
        with pytest.raises(RestoreError, match="circles"):
            mocked_store.get_all()
        assert len(mock.calls) == 2
        with pytest.raises(UnavailableError, match="circles"):
            mocked_store.count()


def test_keys_of_another_type_are_named_and_left_out(
    endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    store.save("1", {"n": 1})
    store.client.execute_command("RPUSH", "order:list", "item")
    assert store.get_all() == {"1": {"n": 1}}
    assert "Failed to get order list from Redis: the key holds a list, not a string" in caplog.text


def test_keys_of_another_type_alone_are_no_orders(endpoint: LocalEndpoint) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token))
    store.client.execute_command("HSET", "order:hash", "field", "value")
    assert store.get_all() == {}
