"""Types of arguments."""

from __future__ import annotations

import click
import pytest

from tests.support.cli import (
    Tool,
)
from upstash_state.cli.params import seconds, share
from upstash_state.local import LocalEndpoint


def test_ages_are_read_in_each_unit() -> None:
    assert [seconds(f"2{unit}") for unit in ("ms", "s", "m", "h", "d", "w")] == [
        0.002,
        2,
        120,
        7200,
        172_800,
        1_209_600,
    ]


def test_an_age_that_no_calendar_holds_is_refused(few: LocalEndpoint, tool: Tool) -> None:
    assert tool("delete", "--older-than", "9999w", "--yes").status == 0
    status, _, err = tool("delete", "--older-than", "999999w", "--yes")
    assert status == 2
    assert "'999999w' is not a time such as 150ms, 45s, 12h or 2d" in err


def test_shares_are_read_as_per_cent_or_not() -> None:
    assert [share(text) for text in ("20%", "0.2", "100%", "0")] == [0.2, 0.2, 1, 0]


@pytest.mark.parametrize("text", ["", "2s", "2", "101%", "-1%", "nan", "٥%", "1e-3"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"such as 20% or 0\.2"):
        share(text)


@pytest.mark.parametrize("text", ["", "150%", "1", "1 s", "-1s", "nan", "٥s", "9999999s"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 150ms, 45s"):
        seconds(text)
