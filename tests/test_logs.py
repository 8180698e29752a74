"""A failure is one log line, whatever text its exception has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.environ import TOKEN, URL, Environ
from upstash_state import redis_save_order, redis_save_orders


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Broken(Mapping[str, Any]):
    """An order whose own code raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Mute(), "Mute"),
        (ValueError("broken\nERROR all lost\u202e"), r"broken\nERROR all lost\u202e"),
        (KeyError("a\u2028b"), r"'a\u2028b'"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 1_000_000), "x" * 500 + "…"),
    ],
    ids=["no text", "several lines", "a separator", "empty", "long"],
)
def test_what_an_orders_own_code_raises_is_one_line_of_the_log_and_no_exception(
    error: Exception, text: str, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ.use(URL, TOKEN)
    broken = Broken(error)
    assert redis_save_order("5866", broken) is False
    assert redis_save_orders({"5866": broken}) == 0
    assert redis_save_orders(broken) == 0
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    prefix = "Failed to save order 5866 to Redis: JSON cannot hold the order: "
    assert lines[:2] == [prefix + text] * 2
    assert lines[2].startswith("Failed to save orders to Redis: " + text.rstrip("…"))
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 1100 for line in lines)
