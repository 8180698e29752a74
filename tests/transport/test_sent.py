"""The endpoint's own words are told apart from what it repeats of the request."""

from __future__ import annotations

import html
import json
from base64 import b64encode
from collections.abc import Callable
from time import process_time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environ import TOKEN
from upstash_state.settings import Secret
from upstash_state.texts import LONGEST
from upstash_state.transport.sent import SentRequest

ORDER = json.dumps(
    {
        "name": "Zoë Müller",
        "company": "Max Beck",
        "phone": "+49 151 5550142",
        "note": "ring twice\ntwice at the door",
        "status": "failed",
    },
    ensure_ascii=False,
)


def sent(*args: str) -> SentRequest:
    return SentRequest(json.dumps(args, ensure_ascii=False).encode(), Secret(TOKEN))


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Service Unavailable", "Service Unavailable"),
        (
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        ),
        (
            "READONLY You can't write against a read only replica",
            "READONLY You can't write against a read only replica",
        ),
        ("ERR invalid expire time in 'set' command", "ERR invalid expire time in 'set' command"),
        ("ERR one\n  two\r\x1b[2J\u202e", r"ERR one two \x1b[2J\u202e"),
        (f"WRONGPASS {TOKEN} is not known", "WRONGPASS *** is not known"),
        ("see https://user:pa/s@s@proxy:3128 there", "see https://***@proxy:3128 there"),
        ("bad client Zoë", "bad client…"),
        ("bad client 'müller'", "bad client…"),
        ("bad number=5550142", "bad number…"),
        ("bad client: Max", "bad client…"),
        ("bad client `beck`", "bad client…"),
        ("bad client &quot;beck&quot;", "bad client…"),
        ("bad text: ring twice", "bad text…"),
        (r"bad text: spoon\ntwice at the", "bad text: spoon…"),
        # One word in small letters, which may be the endpoint's own.
        ("bad note", "bad note"),
        ("Failed", "Failed"),
        ("invalid character near '0142'", "invalid character near…"),
        ("invalid character near 'ller'", "invalid character near…"),
        ("client=Zo%C3%AB is bad", "client…"),
        (r"client Zo\u00eb is bad", "client…"),
        (f"cannot parse: {ORDER}", "cannot parse…"),
        (f"cannot parse {ORDER.encode().hex()}", "cannot parse…"),
        (f"Bearer {TOKEN[:8]}... is not known", "Bearer…"),
        (
            f"ERR unknown command 'SET', with args beginning with: 'k1' '{ORDER}'",
            "ERR unknown command 'SET', with args beginning with: 'k1…",
        ),
        # Of another request, so only the form tells that it is no text for people.
        ('busy, try later: ["GET", "k2"]', "busy, try later…"),
        ("busy, try later: {'Authorization': 'Bearer x'}", "busy, try later…"),
        ("", ""),
        (ORDER, ""),
        ("5550142", ""),
    ],
)
def test_a_text_ends_where_it_repeats_the_request(text: str, own: str) -> None:
    assert sent("SET", "order:k1", ORDER).own_words(text) == own


@pytest.mark.parametrize(
    "text",
    [
        "ERR value is not an integer or out of range",
        "ERR wrong number of arguments for 'set' command",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR max request size exceeded. Limit: 10485760 bytes, Actual: 20485760 bytes",
        "Failed to execute Redis command: ERR syntax error",
        "ERR unknown command 'MSETEX', with args beginning with: ",
    ],
)
def test_standard_texts_stay_readable_whatever_words_an_order_has(text: str) -> None:
    order = dict.fromkeys(["type", "value", "key", "command", "size", "number", "set"], "failed")
    note = "1 set of knives of the right kind, not out of stock, for 12 slips: an error?"
    for command in ("SET", "MSETEX"):
        assert sent(command, "order:k1", json.dumps({**order, "note": note})).own_words(text) == (
            text
        )


ECHOES: list[Callable[[str], str]] = [
    str,
    repr,
    json.dumps,
    quote,
    str.lower,
    str.upper,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: f"'{text}'",
    lambda text: f"={text};",
    html.escape,
    lambda text: text.encode().hex() + "0" * 40,
    lambda text: b64encode(text.encode()).decode() + "+/ab" * 10,
]
CHARACTERS = "abcdefzZ019éßя价🍕"
WORDS = st.text(CHARACTERS, min_size=1, max_size=12)


@given(st.lists(WORDS, min_size=4, max_size=6), st.sampled_from(ECHOES), st.data())
def test_no_echo_of_eight_characters_is_told_whatever_its_form(
    words: list[str], echo: Callable[[str], str], data: st.DataObject
) -> None:
    value = data.draw(st.sampled_from([" ", ", ", "-", '"', "+"])).join(words) + " value"
    order = json.dumps({"n": value}, ensure_ascii=data.draw(st.booleans()))
    assert sent("SET", "k", order).own_words(f"busy: {echo(value)}") == "busy…"


@given(
    st.text("abcdefzZ", min_size=4).filter(str.strip)
    | st.from_regex(r"\A[A-Z][a-z]{2,6}\Z")
    | st.from_regex(r"\A[0-9]{4,7}\Z")
    | st.text("éßя价", min_size=1),
    st.sampled_from(["busy: '{}'", 'busy: "{}" again', "busy: `{}'"]),
    st.booleans(),
)
def test_no_short_value_in_quotes_is_told(value: str, text: str, cut: bool) -> None:
    request = sent("SET", "k", json.dumps({"n": f"xy{value}z" if cut else value}))
    assert request.own_words(text.format(value)) == "busy…"


@given(st.text(st.characters(exclude_categories=())) | st.text("\\ud83cdf5%EA[\"'//@ "))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = sent("SET", "k", ORDER).own_words(text)
    assert line.isprintable()
    assert len(line) <= LONGEST + 1


def test_a_pipeline_that_fails_item_by_item_is_explained_in_time() -> None:
    order = json.dumps({"note": "lorem ipsum dolor " * 450})
    body = json.dumps([["SET", f"order:{n}", order] for n in range(500)]).encode()
    request = SentRequest(body, Secret(TOKEN))
    begin = process_time()
    for n in range(500):
        assert request.own_words(f"ERR overloaded, shed item #7{n:06}").startswith("ERR overloaded")
    assert process_time() - begin < 10


def test_error_texts_that_all_differ_are_explained_in_time() -> None:
    order = json.dumps({"note": "lorem ipsum dolor " * 450})
    body = json.dumps([["SET", f"order:{n}", order] for n in range(500)]).encode()
    request = SentRequest(body, Secret(TOKEN))
    begin = process_time()
    for n in range(500):
        words = " ".join(f"word{n:03}{m:03}" for m in range(50))
        assert "lorem" not in request.own_words(f"ERR {words}")
    assert process_time() - begin < 10
