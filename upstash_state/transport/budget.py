"""Time budgets: a deadline that all calls inside a block share."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import BudgetError, SettingsError
from ..texts import type_name

P = ParamSpec("P")
T = TypeVar("T")


# Seconds that no call needs.
LONGEST = 1e9


class time_budget:
    """Limit the time of all calls made inside the block, taken together.

    Every exchange with the endpoint ends when the budget is used up, retries and pauses included,
    and a call that starts after that fails at once. A budget can only shorten what
    UPSTASH_STATE_TIMEOUT and an enclosing `time_budget` leave. It belongs to the thread or asyncio
    task that entered the block. Leaving the block in another context changes nothing there: FastAPI
    enters and leaves a dependency in two contexts.

        with time_budget(context.get_remaining_time_in_millis() / 1000 - 0.5):
            redis_save_order(order_id, order)

    Args:
        seconds: The time for the whole block, in seconds. With zero or less, nothing is sent.

    Raises:
        SettingsError: It is not a number.
    """

    def __init__(self, seconds: float) -> None:
        if not isinstance(seconds, (int, float)) or seconds != seconds:
            given = "nan" if isinstance(seconds, float) else type_name(seconds)
            raise SettingsError(f"time_budget takes a number of seconds, such as 2.5, not {given}")
        # An int can be larger than every float.
        self._seconds = min(seconds, LONGEST)
        #: Whether a call has said that it is used up.
        self.reported = False

    def __enter__(self) -> None:
        self.reported = False
        # A weak reference, which is alive as long as the block: otherwise an interruption while the
        # block is entered or left could leave the thread with this budget for good.
        entry = (weakref.ref(self), time.monotonic() + self._seconds)
        _budgets.set((*_budgets.get(), entry))

    def __exit__(self, *_: object) -> None:
        budgets = list(_budgets.get())
        mine = [index for index, (ref, _) in enumerate(budgets) if ref() is self]
        if mine:
            del budgets[mine[-1]]
            _budgets.set(tuple(budgets))

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function or an `async def`, so that each call of it has its own budget.

        Raises:
            SettingsError: It is a generator function, whose code runs after the call.
        """
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            text = "time_budget cannot decorate a generator function: use `with` inside of it"
            raise SettingsError(text)

        @wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with time_budget(self._seconds):
                return function(*args, **kwargs)

        @wraps(function)
        async def limited_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            with time_budget(self._seconds):
                return await function(*args, **kwargs)  # type: ignore[misc]

        return limited_coroutine if inspect.iscoroutinefunction(function) else limited  # type: ignore[return-value]


#: The budgets of the blocks that this context is in, with the moment at which each ends.
_budgets: ContextVar[tuple[tuple[weakref.ref[time_budget], float], ...]]
_budgets = ContextVar("upstash_state_budgets", default=())


def deadline_within(seconds: float) -> float:
    """Return when work that starts now must have ended, on `time.monotonic()`'s clock.

    Args:
        seconds: The time that it has without a budget.
    """
    deadline = time.monotonic() + seconds
    for ref, end in _budgets.get():
        if end < deadline and ref() is not None:
            deadline = end
    return deadline


def used_up() -> BudgetError:
    """Return the error for a call that has no time left."""
    error = BudgetError("not asked: the time budget was used up before")
    live = [(end, budget) for ref, end in _budgets.get() if (budget := ref())]
    if live:
        # So that it is logged once, not for each call.
        _, first = min(live, key=lambda one: one[0])
        error.reported, first.reported = first.reported, True
    return error
