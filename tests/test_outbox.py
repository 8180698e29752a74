"""The outbox by itself: which write is the newest, what is due, what is remembered, how much."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.support.clock import Clock
from upstash_state import UnavailableError
from upstash_state.outbox import (
    DELAYED_AFTER,
    FORGET,
    LATE,
    MAX_DIGESTS,
    MEMORY,
    Batch,
    Outbox,
    Write,
)

TTL = 604_800
DOWN = UnavailableError("down")


class Box(Outbox):
    """An outbox with a clock to set, and short ways to put and to send."""

    def __init__(self, max_bytes: int = 64_000_000) -> None:
        self.time = Clock()
        super().__init__(self.time, max_bytes)

    def add(self, key: str, text: str | None = "{}", skip: float = 0.0) -> Write:
        write = self.put(key, text, self.next_number(), TTL, skip)
        assert write is not None
        self.drop_oldest()
        return write

    def done(self, key: str, text: str | None = "{}", skip: float = 0.0) -> Write:
        """Put a write and confirm it."""
        write = self.add(key, text, skip)
        self.confirm(write, self.time.now)
        return write

    def taken(self, *writes: Write) -> list[Write]:
        """Take writes in a batch that is never released."""
        batch = Batch()
        batch.lock.acquire()
        self.take(batch, writes)
        return list(batch.writes.values())

    @property
    def keys(self) -> list[str]:
        return [write.key for write in self.all_pending()]


@pytest.fixture
def box() -> Box:
    return Box()


def test_the_later_call_wins_whichever_was_serialized_first(box: Box) -> None:
    early, late = box.next_number(), box.next_number()
    newer = box.put("a", "late", late, TTL)
    assert newer is not None
    # The caller of the older one waits for the newer one.
    assert box.put("a", "early", early, TTL) is newer
    assert box.pending("a") is newer
    box.confirm(newer, box.time.now)
    assert box.put("a", "early", early, TTL) is None
    assert box.is_idle()


@pytest.mark.parametrize("seconds", [0, MEMORY - 1])
def test_a_call_that_takes_ten_minutes_to_serialize_does_not_undo_a_later_one(
    box: Box, seconds: float
) -> None:
    early = box.next_number()
    box.done("a", "late")
    box.time.now += seconds
    for n in range(100):
        box.done(str(n))
    assert box.put("a", "early", early, TTL) is None
    assert box._size == 0


@pytest.mark.parametrize("end", ["confirm", "supersede"])
def test_the_outcome_of_an_older_write_is_that_of_the_newer_one(box: Box, end: str) -> None:
    older, newer = box.add("a", "older"), box.add("a", "newer")
    assert box.all_pending() == [newer]
    assert box.outcome(older) is False
    box.fail(newer, DOWN)
    assert box.outcome(older) is DOWN
    box.taken(newer)
    # It is being sent again, so the last error is no longer its outcome.
    assert box.outcome(older) is box.outcome(newer) is False
    if end == "confirm":
        box.confirm(newer, box.time.now)
    else:
        box.supersede(newer)
    assert box.outcome(older) is True
    assert box.put("a", "older", older.number, TTL) is None


def test_a_write_whose_newer_one_failed_for_good_has_failed(box: Box) -> None:
    older, newer = box.add("a", "older"), box.add("a", "newer")
    box.fail(newer, DOWN, for_good=True)
    assert "a newer save of the order failed" in str(box.outcome(older))


def test_one_order_has_one_sender_and_others_do_not_wait(box: Box) -> None:
    a, b = box.add("a"), box.add("b")
    batch = Batch()
    with batch.lock:
        box.take(batch, [a])
        newer = box.add("a", "newer")
        assert box.taken(newer, b) == [b]
        assert box.due(fresh=True) == []
    # Whatever kept the batch from being released.
    assert box.due(fresh=True) == box.taken(newer) == [newer]


def test_whoever_takes_an_order_gets_its_newest_write(box: Box) -> None:
    older, newer = box.add("a", "older"), box.add("a", "newer")
    assert box.taken(older) == [newer]


def test_delayed_writes_are_due_and_fresh_ones_on_request(box: Box) -> None:
    failed, fresh = box.add("failed"), box.add("fresh")
    box.fail(failed, DOWN)
    assert box.due() == [failed]
    # What failed least comes first, so that one order to blame does not block the others.
    assert box.due(fresh=True) == [fresh, failed]
    box.time.now += DELAYED_AFTER
    assert not box.is_delayed(fresh)
    box.time.now += 0.1
    assert box.due() == [fresh, failed]


def test_a_failure_that_cannot_pass_leaves_nothing_pending(box: Box) -> None:
    write = box.add("a")
    box.fail(write, DOWN, for_good=True)
    assert (box.is_idle(), write.error) == (True, DOWN)


def test_a_newer_write_is_not_removed_with_an_older_one(box: Box) -> None:
    for end in (
        lambda write: box.confirm(write, box.time.now),
        box.supersede,
        lambda write: box.fail(write, DOWN, for_good=True),
    ):
        older, newer = box.add("a", "older"), box.add("a", "newer")
        end(older)
        assert box.all_pending() == [newer]
        assert box._size == newer.size


def test_a_newer_write_does_not_seem_older_than_the_one_that_was_confirmed_after_it(
    box: Box,
) -> None:
    older = box.add("a", "older")
    box.time.now += 1
    newer = box.add("a", "newer")
    box.time.now += 5
    box.confirm(older, box.time.now)
    assert newer.since == box.time.now


def test_a_marked_order_is_checked_once_after_a_minute(box: Box) -> None:
    box.abandon(box.add("a", "old"))
    new = box.done("a", "new")
    assert (box.pending("a"), box.all_pending()) == (None, [])
    box.time.now += LATE - 1
    assert (box.due(), box.taken(new)) == ([], [])
    box._sending.clear()
    box.time.now += 1
    assert box.due() == [new]
    assert box.taken(new) == [new]
    box.checked(new)
    assert box.is_idle()
    assert box.abandoned("a") == ()


def test_another_attempt_given_up_starts_the_minute_again(box: Box) -> None:
    box.abandon(box.add("a", "old"))
    box.time.now += LATE - 1
    box.abandon(box.add("a", "older"))
    new = box.done("a", "new")
    box.time.now += LATE - 1
    box.checked(new)
    assert (box.due(), box.is_idle()) == ([], False)
    box.time.now += 1
    assert box.due() == [new]


def test_an_order_is_not_marked_for_its_own_text_or_by_an_attempt_a_minute_ago(box: Box) -> None:
    box.abandon(box.add("a", "same"))
    box.done("a", "same")
    assert box.is_idle()
    box.abandon(box.add("b", "old"))
    box.time.now += LATE
    box.done("b", "new")
    assert box.is_idle()


def test_a_few_digests_of_an_order_are_remembered_the_last_ones(box: Box) -> None:
    for n in [*range(MAX_DIGESTS + 9), 19, 18]:
        box.abandon(box.add("a", str(n)))
    assert len(set(box.abandoned("a"))) == len(box.abandoned("a")) == MAX_DIGESTS
    box.abandon(box.add("a", "18"))
    assert len(box.abandoned("a")) == MAX_DIGESTS


def test_the_same_text_is_not_put_again_while_it_is_confirmed(box: Box) -> None:
    def put(text: str | None = "{}", skip: float = 60) -> Write | None:
        return box.put("a", text, box.next_number(), 100, skip)

    write = put()
    assert write is not None
    box.confirm(write, box.time.now)
    assert put() is None
    assert put("other") is not None
    # Something else is pending now.
    assert put() is not None
    box.confirm(box.all_pending()[0], box.time.now)
    assert put(None) is not None
    box.confirm(box.all_pending()[0], box.time.now)
    assert put() is not None
    box.confirm(box.all_pending()[0], box.time.now)
    box.time.now += 49
    assert put() is None
    # Half of its TTL.
    box.time.now += 1
    assert put() is not None


def test_a_write_that_was_sent_late_is_skipped_for_half_of_its_rest(box: Box) -> None:
    write = box.put("a", "{}", box.next_number(), 3600, 1800)
    assert write is not None
    box.time.now += 3000
    box.confirm(write, box.time.now)
    for seconds, skipped in ((299, True), (1, False)):
        box.time.now += seconds
        assert (box.put("a", "{}", box.next_number(), 3600, 1800) is None) == skipped


def test_after_each_further_failure_a_write_waits_longer(box: Box) -> None:
    write = box.add("a")
    waits = []
    for _ in range(9):
        box.fail(write, DOWN)
        waits.append(write.retry_at and write.retry_at - box.time.now)
        assert (box.due(), box.due(now=True)) == ([write] * (not waits[-1]), [write])
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_slow_older_write_does_not_undo_one_that_was_skipped(box: Box) -> None:
    box.done("a", "same", skip=60)
    early, late = box.next_number(), box.next_number()
    assert box.put("a", "same", late, TTL, 60) is None
    assert box.put("a", "other", early, TTL, 60) is None
    assert box.is_idle()


@pytest.mark.parametrize("confirmed_later", [False, True])
@pytest.mark.parametrize("fate", ["abandoned", "dropped", "superseded"])
def test_after_another_write_was_put_nothing_is_skipped(
    box: Box, fate: str, confirmed_later: bool
) -> None:
    same = box.add("a", "same", skip=1000)
    if not confirmed_later:
        box.confirm(same, box.time.now)
    other = box.add("a", "other")
    if confirmed_later:
        box.confirm(same, box.time.now)
    if fate == "superseded":
        box.supersede(other)
    elif fate == "abandoned":
        box.abandon(other)
    box.fail(other, DOWN, for_good=True)
    # The mark is forgotten with other traffic.
    box.time.now += LATE
    for n in range(3):
        box.done(str(n))
    assert box.put("a", "same", box.next_number(), TTL, 1000) is not None


def test_a_read_of_another_text_ends_skipping(box: Box) -> None:
    for found, skipped in [("{}", True), ("other", False), (None, False)]:
        key = str(found)
        box.done(key, skip=60)
        box.read(key, found)
        assert (box.put(key, "{}", box.next_number(), TTL, 60) is None) == skipped


def test_a_list_without_an_order_ends_skipping_unless_it_was_saved_since(box: Box) -> None:
    began = box.time.now
    box.done("a", skip=60)
    for keys, since, skipped in [
        (["a"], began + 1, True),
        ([], began, True),
        ([], began + 1, False),
    ]:
        box.listed(keys, since)
        assert (box.put("a", "{}", box.next_number(), TTL, 60) is None) == skipped


def test_a_marked_order_is_not_skipped(box: Box) -> None:
    box.abandon(box.add("a", "old"))
    box.done("a", "new", skip=60)
    assert box.put("a", "new", box.next_number(), TTL, 60) is not None


def test_the_pause_doubles_up_to_a_minute_and_ends_with_a_success(box: Box) -> None:
    pauses = []
    for _ in range(9):
        box.pause()
        pauses.append(box.pause_left())
        box.time.now += box.pause_left()
        assert box.pause_left() == 0
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    box.resume()
    box.pause()
    assert box.pause_left() == 1


@pytest.mark.parametrize("sent", [False, True], ids=["", "while it is being sent"])
def test_one_order_that_is_put_again_and_again_takes_no_memory(box: Box, sent: bool) -> None:
    first = box.add("a", "x" * 100)
    assert box.taken(*[first] * sent) == [first] * sent
    held = [first] * sent
    del first
    tracemalloc.start()
    try:
        for n in range(5_000):
            box.add("a", f"{n:0100}")
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    assert [box.outcome(write) for write in held] == [False] * sent


@pytest.mark.parametrize(
    "text", ["{}", "x" * 1000, "x" * 999 + "🍕"], ids=["short", "long", "wide"]
)
def test_what_is_pending_is_bounded_as_it_is_in_memory(text: str) -> None:
    box = Box(max_bytes=1_000_000)
    tracemalloc.start()
    try:
        for n in range(3000):
            # A text of its own, as each order has.
            box.add(str(n), text + str(n))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 500_000 < held < 1_000_000


def test_at_the_bound_what_was_put_longest_ago_goes_first() -> None:
    box = Box(max_bytes=100_000)
    first = box.add("first", "x" * 1000)
    for n in range(200):
        box.add("busy", "x" * 1000)
        box.add(str(n), "x" * 1000)
    assert first.error is not None
    assert "too much is pending" in str(first.error)
    assert box.keys == sorted(box.keys[:-2], key=int) + box.keys[-2:]
    assert set(box.keys[-2:]) == {"busy", "199"}


def test_one_huge_order_does_not_cost_the_others() -> None:
    box = Box(max_bytes=100_000)
    for key in ("a", "huge", "b"):
        box.add(key, "x" * (200_000 if key == "huge" else 1000))
    assert box.keys == ["a", "b"]


def test_what_was_dropped_is_told_once_a_minute() -> None:
    box = Box(max_bytes=100_000)
    told = []
    for n in range(300):
        box.put(str(n), "x" * 1000, box.next_number(), TTL)
        told.append(box.drop_oldest())
        box.time.now += 0.5
    lines = [count for count in told if count]
    assert len(lines) <= 3
    told.append(box.drop_oldest(at_end=True))
    assert told[-1] > 0
    assert sum(lines) + told[-1] == 300 - len(box.keys)


def test_what_is_being_sent_is_not_dropped() -> None:
    box = Box(max_bytes=10_000)
    sent = box.add("sent", "x" * 1000)
    assert box.taken(sent) == [sent]
    for n in range(20):
        box.add(str(n), "x" * 1000)
    assert "sent" in box.keys


def test_what_is_confirmed_or_was_given_up_is_forgotten_in_time(box: Box) -> None:
    for n in range(20_000):
        box.abandon(box.add(str(n), "old"))
        box.time.now += 1
        box.done(str(n), "old", skip=60 if n else TTL)
    # One that lasts for long does not keep the others.
    assert len(box._settled) + len(box._abandoned) <= 2 * (MEMORY + LATE) + FORGET
    assert box._size == 0
