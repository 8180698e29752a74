"""A budget can only shorten what a call has."""

from __future__ import annotations

from time import monotonic

import pytest

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
