"""What is owed is sent, in order, once; what is uncertain is looked at again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clock import Clock
from upstash_state import OrderStore, UnavailableError, UpstashRedis, time_budget
from upstash_state.errors import QuotaExceededError, UpstashError
from upstash_state.local import LocalEndpoint
from upstash_state.transport import Answer, Endpoint, Send, intercepting

DAY = 86_400.0
TTL = 7 * 86_400


class Network:
    """Stands between client and endpoint: may lose requests, or answers, or hold requests up."""

    def __init__(self) -> None:
        self.down = False
        self.refusal: bytes | None = None
        self.lose_answers = 0
        self.transient = False
        self.held_up: list[tuple[str, bytes]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.send: Send | None = None
        #: Called with each request before it is sent.
        self.before: Any = lambda body: None
        #: Called with each request after it was answered.
        self.after: Any = lambda body: None

    def __call__(self, wire: Endpoint, send: Send) -> Send:
        self.send = send

        def passing(path: str, body: bytes, deadline: float) -> Answer:
            self.before(body)
            if self.down:
                raise UnavailableError("down", reason="connect", may_have_executed=False)
            if self.refusal and b"PTTL" not in body and b'["SET' in body:
                return Answer(400, {}, self.refusal)
            if self.lose_answers:
                self.lose_answers -= 1
                self.held_up.append((path, body))
                raise UnavailableError("no answer", reason="timeout", transient=self.transient)
            self.sent.append((path, body))
            answer = send(path, body, deadline)
            self.after(body)
            return answer

        return passing

    def arrive(self) -> None:
        """Let what was held up reach the endpoint."""
        assert self.send is not None
        for path, body in self.held_up:
            self.send(path, body, time.monotonic() + 5)
        self.held_up.clear()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    with intercepting(network, simulated=True):
        yield network


@pytest.fixture
def store(store: OrderStore, network: Network) -> OrderStore:
    """The same, with that network between."""
    return store


def failing(store: OrderStore, network: Network, order_id: str, order: dict[str, Any]) -> None:
    network.down = True
    with pytest.raises(UpstashError):
        store.save(order_id, order)
    network.down = False


@pytest.mark.parametrize(
    "traffic",
    [
        lambda store: store.save("other", {}),
        lambda store: store.save_many({"other": {}}),
        lambda store: store.get("other"),
        lambda store: store.delete("other"),
        lambda store: store.count(),
        lambda store: store.get_all(),
        lambda store: store.health(),
        lambda store: store.ping(),
        lambda store: store.flush(),
    ],
    ids=["save", "save_many", "get", "delete", "count", "get_all", "health", "ping", "flush"],
)
def test_a_failed_save_is_made_up_for_with_the_next_traffic(
    store: OrderStore, network: Network, traffic: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    failing(store, network, "1", {"n": 1})
    failing(store, network, "1", {"n": 2})
    assert store.unsaved == ("1",)
    traffic(store)
    assert store.unsaved == ()
    assert store.client.get("order:1") == '{"n": 2}'
    assert "Redis now holds 1 orders whose save or delete had failed before" in caplog.text


def test_a_failed_delete_is_made_up_for(store: OrderStore, network: Network) -> None:
    store.save("1", {})
    network.down = True
    with pytest.raises(UpstashError):
        store.delete("1")
    assert store.get("1") is None
    network.down = False
    store.count()
    assert store.client.get("order:1") is None


def test_making_up_costs_three_commands(
    store: OrderStore, network: Network, endpoint: LocalEndpoint
) -> None:
    failing(store, network, "1", {"n": 1})
    before = endpoint.usage().commands
    store.client.ping()
    store.flush()
    assert endpoint.usage().commands - before == 1 + 3


def test_what_is_owed_expires_as_if_it_had_been_saved_in_time(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    failing(store, network, "1", {"n": 1})
    clock.now += DAY
    store.flush()
    assert 6 * DAY - 5 < store.client.ttl("order:1") <= 6 * DAY


def test_a_newer_writer_is_respected(
    store: OrderStore, network: Network, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    failing(store, network, "1", {"n": 1})
    clock.now += 10
    store.client.set("order:1", '{"n": "theirs"}', ex=TTL)
    assert store.get("1") == {"n": "theirs"}
    assert store.unsaved == ()
    assert "Saved later by another writer, so not sent: 1" in caplog.text


def test_an_older_writer_is_overwritten(store: OrderStore, network: Network) -> None:
    store.client.set("order:1", '{"n": "theirs"}', ex=TTL - 60)
    failing(store, network, "1", {"n": 1})
    store.flush()
    assert store.get("1") == {"n": 1}


def test_a_key_without_expiry_counts_as_saved_later(store: OrderStore, network: Network) -> None:
    failing(store, network, "1", {"n": 1})
    store.client.set("order:1", '{"n": "theirs"}')
    store.flush()
    assert store.get("1") == {"n": "theirs"}


def test_an_echo_of_an_older_text_is_told_by_its_text(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    network.lose_answers = 1
    with pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    failing(store, network, "1", {"n": 2})
    clock.now += 10
    network.arrive()
    store.flush()
    assert store.get("1") == {"n": 2}


def test_a_late_echo_is_repaired_after_a_minute(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    network.lose_answers = 1
    with pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    store.save("1", {"n": 2})
    network.arrive()
    assert store.client.get("order:1") == '{"n": 1}'
    clock.now += 59
    store.count()
    assert store.client.get("order:1") == '{"n": 1}'
    clock.now += 1
    store.count()
    assert store.client.get("order:1") == '{"n": 2}'
    sent = len(network.sent)
    clock.now += 600
    store.count()
    assert len(network.sent) == sent + 1


def test_a_repair_that_fails_is_owed(store: OrderStore, network: Network, clock: Clock) -> None:
    network.lose_answers = 1
    with pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    store.save("1", {"n": 2})
    network.arrive()
    clock.now += 60
    network.refusal = b'{"error": "ERR max daily request limit exceeded"}'
    store.count()
    assert store.unsaved == ("1",)
    network.refusal = None
    assert store.flush()
    assert store.client.get("order:1") == '{"n": 2}'


def test_a_late_delete_is_repaired(store: OrderStore, network: Network, clock: Clock) -> None:
    network.lose_answers = 1
    with pytest.raises(UpstashError):
        store.delete("1")
    store.save("1", {"n": 2})
    network.arrive()
    clock.now += 60
    store.count()
    assert store.client.get("order:1") == '{"n": 2}'


def test_an_uncertain_order_is_not_skipped_as_unchanged(
    endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    client = UpstashRedis(endpoint.url, endpoint.token)
    store = OrderStore(client, skip_unchanged=DAY, clock=clock)
    network.lose_answers = 1
    with pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    store.save("1", {"n": 2})
    network.arrive()
    store.save("1", {"n": 2})
    assert client.get("order:1") == '{"n": 2}'


def test_skipping_ends_at_half_of_the_expiry(
    endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    client = UpstashRedis(endpoint.url, endpoint.token)
    store = OrderStore(client, ttl=100, skip_unchanged=DAY, clock=clock)
    store.save("1", {})
    clock.now += 49
    store.save("1", {})
    assert len(network.sent) == 1
    clock.now += 1
    store.save("1", {})
    assert len(network.sent) == 2


@pytest.mark.parametrize("look", [OrderStore.count, OrderStore.get_all, lambda s: s.get("1")])
def test_a_read_that_misses_an_order_ends_skipping(
    endpoint: LocalEndpoint, network: Network, clock: Clock, look: Any
) -> None:
    client = UpstashRedis(endpoint.url, endpoint.token)
    store = OrderStore(client, skip_unchanged=DAY, clock=clock)
    store.save("1", {})
    client.delete("order:1")
    clock.now += 1
    look(store)
    store.save("1", {})
    assert client.get("order:1") == "{}"


def test_a_save_during_a_count_stays_held(
    endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token), skip_unchanged=DAY, clock=clock)

    began = clock.now
    store._saver.counted(set(), began)
    store.save("1", {})
    store._saver.counted(set(), began)
    sent = len(network.sent)
    store.save("1", {})
    assert len(network.sent) == sent


def test_what_stands_there_already_is_sent_again_if_it_expires_too_soon(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    store.client.set("order:1", '{"n": 1}', ex=60)
    failing(store, network, "1", {"n": 1})
    assert store.flush()
    assert store.client.ttl("order:1") > TTL - 60


def test_what_would_have_expired_by_now_is_not_sent(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    failing(store, network, "1", {"n": 1})
    clock.now += TTL
    assert store.flush()
    assert not [body for _, body in network.sent if b'"SET"' in body]


def test_an_attempt_that_was_given_up_before_one_succeeded_is_uncertain_too(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    network.transient = True
    network.lose_answers = 1
    store.save("1", {"n": 1})
    store.save("1", {"n": 2})
    network.arrive()
    clock.now += 61
    store.count()
    assert store.client.get("order:1") == '{"n": 2}'


def test_a_text_that_is_overtaken_while_it_waits_for_its_request_is_not_sent(
    store: OrderStore, network: Network
) -> None:
    store._saver._sets.now = store._saver._sets._most = 1

    def overtake(body: bytes) -> None:
        network.before = lambda body: None
        store.note_save("2", {"n": 2})

    network.before = overtake
    assert store.save_many({"1": {"n": 1}, "2": {"n": 1}}) == ["1", "2"]
    assert store.client.get("order:2") == '{"n": 2}'
    assert not [body for _, body in network.sent if b"order:2" in body and b'\\"n\\": 1' in body]


def test_health_asks_while_something_is_unsaved(
    endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    client = UpstashRedis(endpoint.url, endpoint.token)
    store = OrderStore(client, background=600, clock=clock)
    assert store.health(max_age=600).ok
    sent = len(network.sent)
    assert store.health(max_age=600).ok
    assert len(network.sent) == sent
    store.save("1", {})
    assert store.health(max_age=600).unsaved == 1
    assert len(network.sent) == sent + 1


def test_the_line_that_closes_the_circuit_says_what_became_of_the_saves(
    store: OrderStore, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    network.down = True
    for n in range(3):
        with pytest.raises(UpstashError):
            store.save(str(n), {})
    network.down = False
    store.client.retry_now()
    caplog.clear()
    store.count()
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert line == (
        "Redis endpoint works again after 0 s - 3 saves and deletes that failed meanwhile "
        "are sent now"
    )


def test_two_stores_of_one_database_know_the_same(
    store: OrderStore, endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    other = OrderStore(UpstashRedis(endpoint.url, endpoint.token), clock=clock)
    failing(store, network, "1", {"n": 1})
    assert other.unsaved == ("1",)
    assert other.health().unsaved == 0
    assert store.unsaved == ()


def test_reads_see_what_is_owed_but_a_restore_needs_the_endpoint(
    store: OrderStore, network: Network
) -> None:
    store.save("1", {"n": 1})
    store.save("2", {"n": 1})
    failing(store, network, "1", {"n": 2})
    network.down = True
    with pytest.raises(UpstashError):
        store.delete("2")
    assert store.get("1") == {"n": 2}
    assert store.get("2") is None
    with pytest.raises(UpstashError):
        store.get_all()
    network.down = False
    store.client.retry_now()
    assert store.get_all() == {"1": {"n": 2}}


def test_a_refusal_that_can_pass_is_owed_and_not_tried_with_every_call(
    store: OrderStore, network: Network
) -> None:
    network.refusal = b'{"error": "ERR max daily request limit exceeded"}'
    with pytest.raises(QuotaExceededError):
        store.save("1", {"n": 1})
    store.count()
    sent = len(network.sent)
    store.count()
    assert len(network.sent) == sent + 1
    network.refusal = None
    assert store.flush()
    assert store.get("1") == {"n": 1}


def test_what_would_fail_again_is_not_owed(store: OrderStore, network: Network) -> None:
    network.refusal = b'{"error": "ERR max single record size exceeded"}'
    with pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    with pytest.raises(UpstashError):
        store.save("2", {"n": {1}})
    assert store.unsaved == ()


def test_nothing_is_owed_where_that_is_turned_off(
    endpoint: LocalEndpoint, network: Network, clock: Clock
) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token), catch_up=False, clock=clock)
    failing(store, network, "1", {"n": 1})
    assert store.unsaved == ()
    assert store.get("1") is None


def test_a_used_up_budget_is_owed(store: OrderStore, network: Network) -> None:
    with time_budget(0), pytest.raises(UpstashError):
        store.save("1", {"n": 1})
    store.count()
    assert store.client.get("order:1") == '{"n": 1}'


def test_a_save_waits_for_the_one_before_and_the_overtaken_is_not_sent(
    store: OrderStore, network: Network
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold_the_first(body: bytes) -> None:
        if not inside.is_set():
            inside.set()
            assert go_on.wait(10)

    network.before = hold_the_first
    done: list[int] = []

    def save(n: int) -> None:
        store.save("1", {"n": n})
        done.append(n)

    threads = [threading.Thread(target=save, args=(n,)) for n in (1, 2, 3)]
    threads[0].start()
    assert inside.wait(10)
    for n in (1, 2):
        waiters = len(store._saver.book.waiters)
        threads[n].start()
        while len(store._saver.book.waiters) == waiters:
            threading.Event().wait(0.001)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == [1, 2, 3]
    assert [b'{\\"n\\": 2}' in body for _, body in network.sent] == [False, False]
    assert store.client.get("order:1") == '{"n": 3}'


def test_flush_says_what_is_true_in_no_time(store: OrderStore, network: Network) -> None:
    assert store.flush(0)
    failing(store, network, "1", {"n": 1})
    sent = len(network.sent)
    assert not store.flush(0)
    assert len(network.sent) == sent


def test_background_gathers_changes_into_one_command(
    endpoint: LocalEndpoint, network: Network
) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token), background=60)
    for n in range(50):
        store.save("1", {"n": n})
    assert network.sent == []
    assert store.unsaved == ("1",)
    assert store.get("1") == {"n": 49}
    store.flush()
    assert endpoint.usage().commands == 2
    assert store.client.get("order:1") == '{"n": 49}'


def test_background_sends_by_itself_and_keeps_what_fails(
    endpoint: LocalEndpoint, network: Network
) -> None:
    store = OrderStore(UpstashRedis(endpoint.url, endpoint.token), background=0.001)
    arrived = threading.Event()
    network.before = lambda body: arrived.set() if not network.down else None
    network.down = True
    store.save("1", {"n": 1})
    network.down = False
    store.save("2", {"n": 2})
    assert arrived.wait(10)
    assert store.flush(10)
    assert store.get_all() == {"1": {"n": 1}, "2": {"n": 2}}


def test_a_fault_in_catching_up_does_not_fail_the_call_that_worked(
    store: OrderStore,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failing(store, network, "1", {"n": 1})

    def explode(*args: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(store._saver._sender, "look", explode)
    store.save("2", {})
    assert "Failed to send what is owed" in caplog.text
    assert "RuntimeError: boom" in caplog.text


def test_ones_own_text_is_not_taken_for_anothers_because_a_look_takes_time(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    store.save("1", {"n": 1})
    failing(store, network, "1", {"n": 2})

    def late(body: bytes) -> None:
        clock.now += 0.5 if b"PTTL" in body else 0

    network.after = late
    assert store.flush()
    assert store.client.get("order:1") == '{"n": 2}'


def test_a_restore_gives_what_another_writer_has_saved_later(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    failing(store, network, "1", {"n": 1})
    clock.now += 10
    store.client.set("order:1", '{"n": "theirs"}', ex=TTL)
    assert store.get_all() == {"1": {"n": "theirs"}}


def test_what_was_held_is_forgotten_after_a_minute_where_nobody_asks(
    store: OrderStore, network: Network, clock: Clock
) -> None:
    for n in range(200):
        clock.now += 1
        store.save(str(n), {})
    assert len(store._saver.book.ledger._held) <= 61


def test_a_flush_does_not_wait_for_the_circuit(store: OrderStore, network: Network) -> None:
    network.down = True
    for n in range(3):
        with pytest.raises(UpstashError):
            store.save(str(n), {})
    network.down = False
    assert store.flush(5)


def test_at_the_end_what_is_owed_is_tried_once(
    store: OrderStore, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    failing(store, network, "17", {})
    network.down = True
    asked: list[bytes] = []
    network.before = asked.append
    store._saver.close("at exit")
    assert len(asked) == 1
    assert "Not saved to Redis at exit: 17" in caplog.text
