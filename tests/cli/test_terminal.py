"""Text for people."""

from __future__ import annotations

import io
import sys

import pytest

from upstash_state.cli.terminal import duration, printable, progress, wrapped


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


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_lines_that_end_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a/path/that-is/longer/than/one/line/of/the/terminal"
    text = f"TLS       the certificates of {path} are trusted"
    assert wrapped(text, io.StringIO(), 10) == text
    lines = wrapped(text, _Terminal(), 10).split("\n")
    shown = ["TLS       the certificates of", path, "are trusted"]
    assert [line.strip() for line in lines] == shown
    assert all(line.startswith(" " * 10) for line in lines[1:])


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "read 0 orders"), (1, "read 1 order\n"), (5000, "read 5,000 orders")]
)
def test_progress_shows_a_number_of_orders(
    monkeypatch: pytest.MonkeyPatch, count: int, shown: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with progress("read") as show:
        show(count)
    assert shown in sys.stderr.getvalue()
