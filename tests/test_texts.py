"""Any text is shown as one printable line of bounded length."""

from __future__ import annotations

from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstash_state.texts import LONGEST, shown, text_of, type_name

CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from(
    "\n\r\x1b\x9b\u2028\u202e\u2066"
)


@given(st.text(CHARACTERS), st.integers(1, 50))
def test_any_text_is_one_printable_line_of_bounded_length(text: str, longest: int) -> None:
    line = shown(text, longest)
    assert line.isprintable()
    assert len(line) <= longest + 1
    assert line.encode().decode() == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Zoë 🍕 #5866", "Zoë 🍕 #5866"),
        ("one\ntwo\r\x85three", r"one\ntwo\r\x85three"),
        ("\x1b[2J\x9b2J", r"\x1b[2J\x9b2J"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("\u202egnp.exe\u2066\u200b\ufeff", r"\u202egnp.exe\u2066\u200b\ufeff"),
        ("\ud83d", r"\ud83d"),
        ("k" * 1_000_000, "k" * LONGEST + "…"),
        ("\n" * LONGEST, r"\n" * (LONGEST // 2) + "…"),
    ],
)
def test_what_is_not_printable_is_escaped_and_what_is_long_is_cut(text: str, line: str) -> None:
    assert shown(text) == line


def test_an_enum_is_shown_as_its_value_on_every_python() -> None:
    assert shown(Enum("Key", {"MAIN": "5866"}, type=str).MAIN) == "5866"


def test_the_name_of_a_type_is_one_printable_line_too() -> None:
    assert type_name(3) == "int"
    assert type_name(type("Evil\nERROR all lost\u202e", (), {})()) == r"Evil\nERROR all lost\u202e"
    assert type_name(type("T" * 1_000_000, (), {})()) == "T" * 100 + "…"


def test_an_exception_has_a_text_even_if_it_raises_instead() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert text_of(ValueError("one\ntwo")) == "one\ntwo"
    assert text_of(Mute()) == ""
