"""Each rule of the outbox, broken once: the simulation must find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.simulation.model import Redis
from tests.simulation.test_every_schedule import run_all
from tests.simulation.test_long_runs import runs
from upstash_state import UpstashError, outbox, writes
from upstash_state.delivery import Delivery
from upstash_state.outbox import Batch, Outbox, Write

Patch = pytest.MonkeyPatch


def the_last_one_to_be_put_wins(patch: Patch) -> None:
    put = Outbox.put

    def broken(self: Outbox, key: str, text: str | None, number: int, *args: Any) -> Write | None:
        return put(self, key, text, self.next_number(), *args)

    patch.setattr(Outbox, "put", broken)


def two_send_one_order_at_once(patch: Patch) -> None:
    def broken(self: Outbox, batch: Batch, writes: Iterable[Write]) -> None:
        batch.writes.update({w.key: self._writes[w.key] for w in writes if w.key in self._writes})

    patch.setattr(Outbox, "take", broken)


def delayed_writes_are_plain_sets(patch: Patch) -> None:
    patch.setattr(Outbox, "is_delayed", lambda self, write: False)


def a_write_that_failed_is_forgotten(patch: Patch) -> None:
    fail = Outbox.fail

    def broken(self: Outbox, write: Write, error: UpstashError, for_good: bool = False) -> None:
        fail(self, write, error, for_good=True)

    patch.setattr(Outbox, "fail", broken)


def abandoned_attempts_are_not_reported(patch: Patch) -> None:
    patch.setattr(Outbox, "abandon", lambda self, write: None)


def only_failed_requests_are_abandoned(patch: Patch) -> None:
    abandon = Outbox.abandon

    def broken(self: Outbox, write: Write) -> None:
        if write.failures:
            abandon(self, write)

    patch.setattr(Outbox, "abandon", broken)


def only_the_last_abandoned_text_is_remembered(patch: Patch) -> None:
    patch.setattr(outbox, "MAX_DIGESTS", 1)


def marked_orders_are_not_checked(patch: Patch) -> None:
    patch.setattr(outbox, "LATE", 0.0)


def a_check_writes_whatever_is_stored(patch: Patch) -> None:
    write = Redis._write

    def broken(self: Redis, key: str, check: str, *args: str) -> int:
        return write(self, key, "0", *args)

    patch.setattr(Redis, "_write", broken)


def ones_own_late_text_counts_as_anothers(patch: Patch) -> None:
    patch.setattr(Outbox, "abandoned", lambda self, key: ())


def a_confirmed_write_does_not_move_the_next_one(patch: Patch) -> None:
    confirm = Outbox.confirm

    def broken(self: Outbox, write: Write, sent_at: float) -> None:
        newest = self._writes.get(write.key)
        since = newest.since if newest else 0.0
        confirm(self, write, sent_at)
        if newest:
            newest.since = since

    patch.setattr(Outbox, "confirm", broken)


def delayed_writes_get_a_whole_ttl(patch: Patch) -> None:
    patch.setattr(writes, "_left", lambda write, outbox: int(write.ttl * 1000))


def an_order_stays_taken(patch: Patch) -> None:
    patch.setattr(Outbox, "release", lambda self, batch: None)
    patch.setattr(Outbox, "sender", lambda self, key: self._sending.get(key))


def a_confirmed_write_stays_pending(patch: Patch) -> None:
    patch.setattr(Outbox, "_remove", lambda self, write: None)


def a_caller_is_told_true_before_it_is_sent(patch: Patch) -> None:
    patch.setattr(Outbox, "outcome", lambda self, write: True)


def nobody_tries_again(patch: Patch) -> None:
    patch.setattr(Outbox, "due", lambda self, **_: [])


def a_command_that_the_endpoint_lacks_is_tried_again_and_again(patch: Patch) -> None:
    patch.setattr(Delivery, "_may_be_unknown", lambda self, name, result: False)


BROKEN = [
    the_last_one_to_be_put_wins,
    two_send_one_order_at_once,
    delayed_writes_are_plain_sets,
    a_write_that_failed_is_forgotten,
    abandoned_attempts_are_not_reported,
    only_failed_requests_are_abandoned,
    only_the_last_abandoned_text_is_remembered,
    marked_orders_are_not_checked,
    a_check_writes_whatever_is_stored,
    ones_own_late_text_counts_as_anothers,
    a_confirmed_write_does_not_move_the_next_one,
    delayed_writes_get_a_whole_ttl,
    an_order_stays_taken,
    a_confirmed_write_stays_pending,
    a_caller_is_told_true_before_it_is_sent,
    nobody_tries_again,
    a_command_that_the_endpoint_lacks_is_tried_again_and_again,
]


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_found(monkeypatch: Patch, rule: Callable[[Patch], None]) -> None:
    rule(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        schedules(monkeypatch)


def schedules(monkeypatch: Patch) -> None:
    run_all(monkeypatch, "aa", (), slow_serializer=True)
    for faults in ["late"], ["lost"], ["refused"], ["retried"]:
        for calls in "aa", "ab", "aA":
            run_all(monkeypatch, calls, faults, coarse=True)
    runs(monkeypatch, range(100))
    run_all(monkeypatch, "aaa", ["late", "lost"], coarse=True)
