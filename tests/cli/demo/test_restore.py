"""The comparison of restored orders with saved ones."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from upstash_state.cli.demo.restore import differences

MOMENT = datetime(2025, 12, 1, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("saved", "found", "difference"),
    [
        ({"a": 1}, {"a": True}, "saved {'a': 1}, restored {'a': True}"),
        ({"a": 1}, {"a": 1.0}, "saved {'a': 1}, restored {'a': 1.0}"),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}, "saved {'a': [{'b': 'x'}]}, restored "),
        ({"a": 1, "b": [1]}, {"a": 1, "b": [1, 2]}, "saved 'b': [1]}, restored 'b': [1,"),
        ({"a": []}, {"a": {}}, "saved {'a': []}, restored {'a': {}}"),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "saved 'b': 2}, restored 'c': 2}"),
        ({"a": "T"}, {"a": MOMENT}, "saved {'a': 'T'}, restored {'a': datetime.datetime(2025"),
        ({"a": MOMENT}, {"a": MOMENT.astimezone(timezone.utc)}, "saved {'a': datetime.datetime("),
    ],
)
def test_the_first_difference_of_an_order_is_named(
    saved: dict[str, Any], found: dict[str, Any], difference: str
) -> None:
    (named,) = differences({"1": saved}, {"1": found})
    assert named.startswith(f"order 1: {difference}")


def test_orders_that_are_missing_or_too_many_are_named() -> None:
    assert list(differences({"1": {}}, {"2": {}})) == [
        "order 1 was not restored",
        "order 2 was restored, but not saved",
    ]
