"""In the end it is right: whatever happens on the way, Redis holds the newest of each order."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint, written
from upstash_state import OrderStore, UpstashError, UpstashRedis, reset_client
from upstash_state.transport import intercepting

TTL = 604_800
IDS = st.sampled_from(["a", "b"])
# Few, so that orders come back to a text that they had.
NUMBERS = st.integers(0, 2)
FATES = st.sampled_from(["", "", "refused", "lost", "late", "again"])


class Backup(RuleBasedStateMachine):
    """One process and other writers on two orders, over a network that loses and delays."""

    skip = 0.0
    background = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.full = False
        self.clock = Clock()
        self.redis = MemoryEndpoint(self.clock)
        self.stack.enter_context(intercepting(self.redis, simulated=True))
        client = UpstashRedis("http://127.0.0.1:1", "token")
        self.store = OrderStore(
            client, skip_unchanged=self.skip, background=self.background, clock=self.clock
        )
        #: The newest of each order, None for none; and whose it is.
        self.newest: dict[str, tuple[str | None, bool]] = {}
        #: Orders where something of ours arrived late over what another writer had saved.
        self.overrun: set[str] = set()

    def teardown(self) -> None:
        try:
            self.redis.plan.clear()
            self.redis.down = False
            self.redis.refuse = lambda command: None
            while self.redis.late:
                self._arrive()
            self._pass(61)
            self._traffic()
            assert self.store.flush(30)
            self._traffic()
            assert self.store.unsaved == ()
            for order_id, (text, _) in self.newest.items():
                if order_id not in self.overrun:
                    assert self.redis.get(f"order:{order_id}") == text, order_id
            assert self.store._outbox.is_idle()
        finally:
            reset_client(flush=False)
            self.stack.close()

    def _traffic(self) -> None:
        self.store.client.retry_now()
        # What was refused is not tried again with every call; here no time passes between them.
        self.store._outbox.resume()
        self.store.count()

    def _pass(self, seconds: float) -> None:
        # What is late arrives within a minute, or never.
        while self.redis.late and self.clock.now + seconds - self.redis.late[0][0] >= 60:
            self._arrive()
        self.clock.now += seconds

    def _arrive(self) -> None:
        for command in self.redis.late[0][1]:
            for key in written(command):
                order_id = key.removeprefix("order:")
                if not self.newest[order_id][1]:
                    self.overrun.add(order_id)
        self.redis.arrive()

    @rule(order_id=IDS, number=NUMBERS, fate=FATES)
    def save(self, order_id: str, number: int, fate: str) -> None:
        self._pass(1)
        self.store.client.retry_now()
        self.redis.plan.append(fate)
        self.newest[order_id] = (json.dumps({"n": number}), True)
        self.overrun.discard(order_id)
        try:
            self.store.save(order_id, {"n": number})
        except UpstashError:
            assert fate or self.redis.down or self.full
        else:
            assert self.background or self.redis.get(f"order:{order_id}") == json.dumps(
                {"n": number}
            )
        self.redis.plan.clear()

    @rule(order_id=IDS, fate=FATES)
    def delete(self, order_id: str, fate: str) -> None:
        self._pass(1)
        self.store.client.retry_now()
        self.redis.plan.append(fate)
        self.newest[order_id] = (None, True)
        self.overrun.discard(order_id)
        try:
            self.store.delete(order_id)
        except UpstashError:
            assert fate or self.redis.down or self.full
        self.redis.plan.clear()

    @rule(numbers=st.dictionaries(IDS, NUMBERS, min_size=1), fate=FATES)
    def save_many(self, numbers: dict[str, int], fate: str) -> None:
        self._pass(1)
        self.store.client.retry_now()
        self.redis.plan.append(fate)
        for order_id, number in numbers.items():
            self.newest[order_id] = (json.dumps({"n": number}), True)
            self.overrun.discard(order_id)
        try:
            self.store.save_many({order_id: {"n": number} for order_id, number in numbers.items()})
        except UpstashError:
            assert fate or self.redis.down or self.full
        self.redis.plan.clear()

    @rule(order_id=IDS, number=st.integers(10, 12))
    def another_writer_saves(self, order_id: str, number: int) -> None:
        if self.skip or self.background:
            # What another writer changed goes unnoticed then, for as long as orders are skipped
            # or gathered: that is what the settings trade.
            return
        self._pass(1)
        text = json.dumps({"n": number})
        self.redis.set(f"order:{order_id}", text, TTL)
        self.newest[order_id] = (text, False)
        self.overrun.discard(order_id)

    @rule(order_id=IDS)
    def another_writer_deletes(self, order_id: str) -> None:
        if self.skip or self.background:
            return
        self._pass(1)
        key = f"order:{order_id}"
        if order_id in self.store.unsaved or "-" in self.store._outbox.abandoned(key):
            return
        self.redis.keys.pop(f"order:{order_id}", None)
        self.newest[order_id] = (None, False)
        self.overrun.discard(order_id)

    @rule(full=st.booleans())
    def the_database_is_full_or_not(self, full: bool) -> None:
        self.redis.refuse = lambda command: "ERR DB capacity quota exceeded" if full else None
        self.full = full

    @rule(fates=st.lists(FATES, max_size=3))
    def traffic(self, fates: list[str]) -> None:
        self._pass(1)
        self.redis.plan.extend(fates)
        try:
            self._traffic()
        except UpstashError:
            assert fates or self.redis.down or self.full
        self.redis.plan.clear()

    @rule(order_id=IDS)
    def read(self, order_id: str) -> None:
        self._pass(1)
        owed = order_id in self.store.unsaved
        self.store.client.retry_now()
        try:
            order = self.store.get(order_id)
        except UpstashError:
            assert self.redis.down
            assert not owed
        else:
            text, ours = self.newest.get(order_id, (None, True))
            if owed and ours:
                assert order == (None if text is None else json.loads(text))

    @rule()
    def something_late_arrives(self) -> None:
        self._pass(1)
        if self.redis.late:
            self._arrive()

    @rule(down=st.booleans())
    def the_endpoint_goes_or_comes(self, down: bool) -> None:
        self.redis.down = down

    @rule(seconds=st.sampled_from([5, 30, 61, 3600]))
    def time_passes(self, seconds: int) -> None:
        self._pass(seconds)

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert len(self.store.unsaved) <= 2


class SkippingBackup(Backup):
    skip = 86_400.0


class BackgroundBackup(Backup):
    # The worker never comes to it: flush and traffic send what was noted.
    background = 3600.0


MACHINES = [Backup, SkippingBackup, BackgroundBackup]


def run(machine: type[Backup], examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            database=None, max_examples=examples, stateful_step_count=steps, deadline=None
        ),
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_in_the_end_redis_holds_the_newest(machine: type[Backup]) -> None:
    run(machine, 40, 30)


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_in_the_end_redis_holds_the_newest_whatever_is_tried(machine: type[Backup]) -> None:
    run(machine, 500, 60)
