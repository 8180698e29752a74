"""Text for people."""

from __future__ import annotations

import pytest

from upstash_state.cli.terminal import duration, printable


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (3605, "1 h"),
        (3 * 86_400 + 7200, "3 d 2 h"),
        (3 * 86_400 + 60, "3 d"),
        (-90, "-1 min 30 s"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: int, shown: str) -> None:
    assert duration(seconds) == shown


def test_printable_escapes_as_json_does() -> None:
    assert printable("Zoë 🍕 \n\x7f\x9b\ud800") == "Zoë 🍕 \\n\\u007f\\u009b\\ud800"
