"""A budget can only shorten what a call has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from time import monotonic

import pytest

from upstash_state import SettingsError
from upstash_state.transport.budget import deadline_within, time_budget


def left(seconds: float) -> float:
    return deadline_within(seconds) - monotonic()


def test_without_a_block_a_call_has_its_own_time() -> None:
    assert left(5) == pytest.approx(5, abs=0.1)


def test_a_block_shortens_it() -> None:
    with time_budget(2):
        assert left(5) == pytest.approx(2, abs=0.1)
        assert left(1) == pytest.approx(1, abs=0.1)
    assert left(5) == pytest.approx(5, abs=0.1)


def test_an_inner_block_cannot_lengthen_an_outer_one() -> None:
    with time_budget(2):
        with time_budget(60):
            assert left(5) == pytest.approx(2, abs=0.1)
        with time_budget(1):
            assert left(5) == pytest.approx(1, abs=0.1)


def test_it_ends_with_the_block_also_when_that_raises() -> None:
    with pytest.raises(KeyError), time_budget(1):
        raise KeyError
    assert left(5) == pytest.approx(5, abs=0.1)


def test_an_async_function_has_its_budget_while_it_runs() -> None:
    @time_budget(2)
    async def inside(seconds: float) -> float:
        await asyncio.sleep(0)
        return left(seconds)

    async def both() -> list[float]:
        return await asyncio.gather(inside(5), inside(1))

    assert asyncio.run(both()) == pytest.approx([2, 1], abs=0.1)
    assert inspect.iscoroutinefunction(inside)
    assert left(5) == pytest.approx(5, abs=0.1)


def test_a_generator_function_cannot_have_a_budget_as_its_code_runs_after_the_call() -> None:
    def orders() -> Iterator[int]:
        yield 1

    async def orders_later() -> AsyncIterator[int]:
        yield 1

    for function in (orders, orders_later):
        with pytest.raises(SettingsError, match="use `with` inside of it"):
            time_budget(2)(function)
