"""How long a call may take: a deadline that everything inside a block shares."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from operator import itemgetter
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class time_budget:
    """Give all calls made inside the block, taken together, at most so much time.

    Every exchange with the endpoint ends when the budget is used up, retries and pauses included,
    and a call begun after that fails at once. A budget can only shorten what UPSTASH_STATE_TIMEOUT
    and an enclosing `time_budget` leave, never lengthen it. It belongs to the thread or asyncio
    task that entered the block. A block that ends elsewhere ends nothing there: FastAPI enters and
    leaves a dependency in two contexts.

        with time_budget(context.get_remaining_time_in_millis() / 1000 - 0.5):
            redis_save_order(order_id, order)

    Args:
        seconds: The time for the whole block, in seconds. Zero or less: nothing is sent at all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.told = False

    def __enter__(self) -> None:
        # By a weak reference, which the block itself keeps alive: an interruption at this moment
        # would otherwise leave a budget to the thread that nothing ends.
        entry = (weakref.ref(self), time.monotonic() + self._seconds)
        _budgets.set((*_budgets.get(), entry))

    def __exit__(self, *_: object) -> None:
        budgets = list(_budgets.get())
        mine = [index for index, (ref, _) in enumerate(budgets) if ref() is self]
        if mine:
            del budgets[mine[-1]]
            _budgets.set(tuple(budgets))

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """As a decorator: each call of the function has a budget of its own."""

        @wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with time_budget(self._seconds):
                return function(*args, **kwargs)

        return limited


_budgets: ContextVar[tuple[tuple[weakref.ref[time_budget], float], ...]]
_budgets = ContextVar("upstash_state_budgets", default=())


def deadline_within(seconds: float) -> float:
    """The moment, on `time.monotonic()`'s clock, at which work begun now must have ended."""
    budgets = [deadline for ref, deadline in _budgets.get() if ref() is not None]
    return min([time.monotonic() + seconds, *budgets])


def is_news() -> bool:
    """Whether the first budget to end has not been asked about before."""
    budgets = [(deadline, ref()) for ref, deadline in _budgets.get()]
    _, first = min((one for one in budgets if one[1]), key=itemgetter(0), default=(0, None))
    if first is None or first.told:
        return first is None
    first.told = True
    return True
