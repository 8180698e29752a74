"""Histories of one store and of other writers, drawn and shrunk by hypothesis.

Other than the rest of this folder, they include what a store adds: skipping what is unchanged,
reads that see pending writes, counts that end skipping.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint, written
from upstash_state import OrderStore, UpstashError, UpstashRedis, logs, reset_client
from upstash_state.outbox import DELETED, LATE
from upstash_state.transport import intercepting

TTL = 604_800
IDS = st.sampled_from(["a", "b"])
# Few, so that orders come back to a text that they had.
ORDERS = st.none() | st.fixed_dictionaries({"n": st.integers(0, 2)})
FATES = st.sampled_from(["", "", "refused", "lost", "late", "again"])


class Histories(RuleBasedStateMachine):
    """One store and other writers on two orders, over a network that loses and delays."""

    skip = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.redis = MemoryEndpoint(self.clock)
        self.stack = ExitStack()
        self.stack.enter_context(intercepting(self.redis, simulated=True))
        client = UpstashRedis("http://127.0.0.1:1", "token")
        self.store = OrderStore(client, skip_unchanged=self.skip, clock=self.clock)
        self.full = False
        #: The newest text of each order, None for none; and whether it is this store's.
        self.newest: dict[str, tuple[str | None, bool]] = {}
        #: Orders where an attempt of this store arrived late over another writer's text.
        self.overrun: set[str] = set()

    def teardown(self) -> None:
        try:
            self.redis.down = False
            self.the_database_is_full_or_not(False)
            while self.redis.late:
                self.something_late_arrives()
            self.time_passes(61)
            self.traffic([])
            assert self.store.flush(30)
            self.traffic([])
            for order_id in self.newest.keys() - self.overrun:
                assert self.redis.get(f"order:{order_id}") == self.newest[order_id][0], order_id
            assert self.store._outbox.is_idle()
        finally:
            reset_client(flush=False)
            self.stack.close()

    def attempt(self, fates: list[str], call: Any, *args: Any) -> bool:
        self.time_passes(1)
        self.store.client.retry_now()
        self.store._outbox.resume()
        self.redis.plan.extend(fates)
        try:
            call(*args)
        except UpstashError:
            assert any(fates) or self.redis.down or self.full
            return False
        finally:
            self.redis.plan.clear()
        return True

    def put(self, order_id: str, order: Any, *, ours: bool) -> None:
        self.newest[order_id] = (None if order is None else json.dumps(order), ours)
        self.overrun.discard(order_id)

    def accept(self, order_id: str, order: Any) -> Any:
        store = self.store
        return store.accept_delete(order_id) if order is None else store.accept(order_id, order)

    @rule(order_id=IDS, order=ORDERS, fate=FATES)
    def save_or_delete(self, order_id: str, order: Any, fate: str) -> None:
        self.put(order_id, order, ours=True)
        if self.attempt([fate], self.accept(order_id, order)):
            assert self.redis.get(f"order:{order_id}") == self.newest[order_id][0]

    @rule(orders=st.dictionaries(IDS, ORDERS.filter(bool), min_size=1), fate=FATES)
    def save_many(self, orders: dict[str, Any], fate: str) -> None:
        for order_id, order in orders.items():
            self.put(order_id, order, ours=True)
        self.attempt([fate], self.store.save_many, orders)

    @rule(order_id=IDS, order=st.none() | st.fixed_dictionaries({"n": st.integers(10, 12)}))
    def another_writer_writes(self, order_id: str, order: Any) -> None:
        key = f"order:{order_id}"
        if self.skip:
            # It goes unnoticed for as long as orders are skipped.
            return
        if order is None and (
            order_id in self.store.unsaved or DELETED in self.store._outbox.abandoned(key)
        ):
            # A delete leaves nothing that tells when it was made.
            return
        self.time_passes(1)
        self.put(order_id, order, ours=False)
        self.redis.keys.pop(key, None)
        if order is not None:
            self.redis.set(key, json.dumps(order), TTL)

    @rule(fates=st.lists(FATES, max_size=3))
    def traffic(self, fates: list[str]) -> None:
        self.attempt(fates, self.store.count)

    @rule(order_id=IDS)
    def read(self, order_id: str) -> None:
        pending = order_id in self.store.unsaved
        found: list[Any] = []
        worked = self.attempt([], lambda: found.append(self.store.get(order_id)))
        assert worked or not pending
        text, ours = self.newest.get(order_id, (None, False))
        if pending and ours and order_id not in self.overrun:
            assert found == [text and json.loads(text)]

    @rule()
    def something_late_arrives(self) -> None:
        if self.redis.late:
            for command in self.redis.late[0][1]:
                for key in written(command):
                    order_id = key.removeprefix("order:")
                    if not self.newest[order_id][1]:
                        self.overrun.add(order_id)
            self.redis.arrive()

    @rule(down=st.booleans())
    def the_endpoint_goes_or_comes(self, down: bool) -> None:
        self.redis.down = down

    @rule(full=st.booleans())
    def the_database_is_full_or_not(self, full: bool) -> None:
        self.full = full
        self.redis.refuse = lambda command: "ERR DB capacity quota exceeded" if full else None

    @rule(seconds=st.sampled_from([5, 30, 61, 3600]))
    def time_passes(self, seconds: int) -> None:
        # What is late arrives within a minute, or never.
        while self.redis.late and self.clock.now + seconds - self.redis.late[0][0] >= LATE:
            self.something_late_arrives()
        self.clock.now += seconds


class SkippingHistories(Histories):
    skip = 86_400.0


@pytest.mark.parametrize("machine", [Histories, SkippingHistories])
@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_in_the_end_redis_holds_the_newest_of_each_order(
    monkeypatch: pytest.MonkeyPatch, machine: type[Histories], examples: int
) -> None:
    # pytest would keep thousands of lines.
    monkeypatch.setattr(logs.log.logger, "disabled", True)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None)
    )
