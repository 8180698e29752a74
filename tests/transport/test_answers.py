"""How the bytes of an answer are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upstash_state.transport.answers import parse

TEXTS = st.text() | st.text('aé€🔴\n"\\\\')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(VALUES, st.booleans())
@example({"result": ["Zoë 🔴", "\\udead, not escaped"]}, False)
@example({"é": "€"}, False)
@example({"result": ["é<", "\u2028"]}, False)
def test_an_answer_is_read_as_json_reads_it(value: Any, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace")
    assert parse(data) == json.loads(data)
    # As Go's encoder does it, with a few characters escaped and the others not.
    data = data.replace(b"<", rb"\u003c").replace("\u2028".encode(), rb"\u2028")
    assert parse(data) == json.loads(data)


def refused(name: str) -> Any:
    raise ValueError(name)


@given(st.binary() | st.lists(st.sampled_from([b'"', b"\xc3", b"\xa9", b"\\", b"n", b"[", b"]"])))
@example(b'"\xc3\\n\xa9"')
@example(b'"\xed\xa0\x80"')
@example("\u00a0[]".encode())
@example("\ufeff[]".encode())
def test_bytes_are_refused_that_json_refuses(data: bytes | list[bytes]) -> None:
    data = b"".join(data) if isinstance(data, list) else data
    try:
        expected = json.loads(data.decode(), parse_constant=refused)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            parse(data)
    else:
        assert parse(data) == expected
