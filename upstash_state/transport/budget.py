"""How long a call may take: a deadline that everything inside a block shares."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_deadline: ContextVar[float] = ContextVar("upstash_state_deadline")


@contextmanager
def time_budget(seconds: float) -> Iterator[None]:
    """Give all calls made inside the block, taken together, at most so much time.

    Every exchange with the endpoint ends when the budget is used up, retries and pauses included,
    and a call begun after that fails at once. A budget can only shorten what UPSTASH_STATE_TIMEOUT
    and an enclosing `time_budget` leave, never lengthen it. It belongs to the thread or asyncio
    task that entered the block.

        with time_budget(context.get_remaining_time_in_millis() / 1000 - 0.5):
            redis_save_order(order_id, order)

    Args:
        seconds: The time for the whole block, in seconds. Zero or less: nothing is sent at all.
    """
    mine = monotonic() + seconds
    token = _deadline.set(min(mine, _deadline.get(mine)))
    try:
        yield
    finally:
        _deadline.reset(token)


def deadline_within(seconds: float) -> float:
    """The moment, on `time.monotonic()`'s clock, at which work begun now must have ended."""
    mine = monotonic() + seconds
    return min(mine, _deadline.get(mine))
