"""Answers are read as JSON, and refusals are explained without what was sent."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.environ import TOKEN, URL, Environ
from upstash_state import (
    AnswerError,
    RequestTooLargeError,
    UpstashError,
    UpstashRedis,
    redis_save_order,
    redis_save_orders,
)
from upstash_state.settings import Secret
from upstash_state.transport import Answer, Endpoint, Send, intercepting
from upstash_state.transport.answers import _REFUSALS, interpret

ORDER = {
    "name": "Zoë Müller",
    "phone": "+49 151 5550142",
    "address": "12 Hauptstraße",
    "note": "ring twice\nat the door",
}
#: Pieces of the order and the token, of which none may be repeated.
DATA = ("Zo", "ller", "5550142", "Hauptstra", "twice", "door", TOKEN, TOKEN[:9])


def answering(answer: Callable[[str, bytes], Answer]) -> AbstractContextManager[None]:
    """Let a function of the path and body answer each attempt."""

    def interceptor(endpoint: Endpoint, send: Send) -> Send:
        return lambda path, body, deadline: answer(path, body)

    return intercepting(interceptor, simulated=True)


def shown_with_locals(error: BaseException) -> str:
    """Show an exception and its frames as an error reporter does, without the test's own frame."""
    seen, link, texts = set(), error, []
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        trace = link.__traceback__
        frames = trace.tb_next if trace and trace.tb_frame.f_code.co_filename == __file__ else trace
        shown = traceback.TracebackException(type(link), link, frames, capture_locals=True)
        texts += [*shown.format(), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__  # type: ignore[assignment]
    return "".join(texts)


TEXTS = st.text() | st.text('aé€🔴\n"\\\\')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


def read(data: bytes) -> Any:
    """The result that an answer's body holds."""
    [result] = interpret(Answer(200, {}, data), None, b"[]", Secret(TOKEN))
    return result


@given(VALUES, st.booleans())
@example(["Zoë 🔴", "\\udead, not escaped"], False)
@example({"é": "€"}, False)
@example(["é<", "\u2028"], False)
def test_an_answer_is_read_as_json_reads_it(value: Any, ascii_only: bool) -> None:
    data = json.dumps({"result": value}, ensure_ascii=ascii_only).encode(errors="replace")
    assert read(data) == json.loads(data)["result"]
    # As Go's encoder does it, with a few characters escaped and the others not.
    data = data.replace(b"<", rb"\u003c").replace("\u2028".encode(), rb"\u2028")
    assert read(data) == json.loads(data)["result"]


def refused(name: str) -> Any:
    raise ValueError(name)


@given(st.binary() | st.lists(st.sampled_from([b'"', b"\xc3", b"\xa9", b"\\", b"n", b"[", b"]"])))
@example(b'"\xc3\\n\xa9"')
@example(b'"\xed\xa0\x80"')
@example("\u00a0[]".encode())
@example("\ufeff[]".encode())
def test_bytes_are_refused_that_json_refuses(data: bytes | list[bytes]) -> None:
    data = data if isinstance(data, bytes) else b"".join(data)
    data = b'{"result": %b}' % data
    try:
        expected = json.loads(data.decode(), parse_constant=refused)
    except ValueError:
        with pytest.raises(AnswerError):
            read(data)
    else:
        assert read(data) == expected["result"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" * 5000])
def test_a_number_that_python_cannot_hold_is_refused(number: str) -> None:
    with pytest.raises(AnswerError):
        read(b'{"result": [0, %b]}' % number.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"result": "' + b"[" * 9_900_000 + b'"}',
        b'{"result": "' + b'\\"' * 5_000_000,
        b'{"result": ' + b"[" * 15_000_000,
        b'{"result": [' + b"[]," * 1_000_000 + b"[]]}",
        b'"' * 15_000_000,
    ],
    ids=["brackets in a text", "an unterminated text", "nested", "arrays", "quotes"],
)
def test_the_largest_answers_are_read_in_linear_time(body: bytes) -> None:
    begin = time.process_time()
    with suppress(UpstashError):
        interpret(Answer(200, {}, body), None, b'["GET","k"]', Secret(TOKEN))
    # A quadratic search takes minutes.
    assert time.process_time() - begin < 10


def test_an_order_of_brackets_is_read() -> None:
    stored = json.dumps({"note": "[" * 1_500_000})
    body = json.dumps({"result": stored}).encode()
    assert read(body) == stored


OWN = "upstream connect error or disconnect/reset before headers. reset reason: overflow"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 429, 500, 502, 503])
@pytest.mark.parametrize(
    "body",
    [
        {"error": OWN},
        {"error": {"message": OWN}},
        {"error": {"code": 14, "message": OWN}},
        {"message": OWN},
        {"detail": [{"loc": ["body"], "msg": OWN}]},
        {"errors": [{"title": OWN}]},
        {"error": {"code": 14}, "message": OWN},
        OWN,
        OWN.encode(),
    ],
    ids=repr,
)
def test_an_endpoints_own_words_are_told_in_any_status_also_nested(status: int, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(UpstashError) as caught:
        interpret(Answer(status, {}, data), None, b'["GET","k"]', Secret(TOKEN))
    assert OWN in str(caught.value)


@pytest.mark.parametrize("text", [text for text, _ in _REFUSALS])
def test_a_known_refusal_is_told_whatever_the_order_says(text: str) -> None:
    body = json.dumps(["SET", "k", json.dumps({"note": text.lower()})]).encode()
    answer = Answer(400, {}, json.dumps({"error": text}).encode())
    with pytest.raises(UpstashError) as caught:
        interpret(answer, None, body, Secret(TOKEN))
    assert str(caught.value) == text


ECHOES: dict[str, Callable[[str, bytes], str]] = {
    "the body": lambda path, body: body.decode(),
    "the body, cut off": lambda path, body: body.decode()[60:150],
    "the body as ASCII": lambda path, body: ascii(body.decode()),
    "the body as JSON": lambda path, body: json.dumps(body.decode()),
    "the command": lambda path, body: f"unknown command {json.loads(body)}",
    "the arguments, as Redis": lambda path, body: (
        "ERR unknown command 'SET', with args beginning with: "
        + "".join(f"'{arg:.128}' " for arg in json.loads(body)[1:])
    ),
    "a word of the order": lambda path, body: "ERR invalid name: Zoë",
    "a number of the order": lambda path, body: "ERR 5550142 is not an integer",
    "the headers": lambda path, body: f"cannot route Authorization: Bearer {TOKEN}, Host: x",
    "a piece of the token": lambda path, body: f"WRONGPASS no such token {TOKEN[:10]}...",
    "in hexadecimal": lambda path, body: f"cannot parse {body.hex()}",
}


@pytest.mark.parametrize("status", [200, 400, 401, 503])
@pytest.mark.parametrize("place", ["error", "nested", "text", "item", "result"])
@pytest.mark.parametrize("echo", ECHOES)
def test_an_endpoint_that_repeats_the_request_puts_it_into_no_error_log_or_frame(
    status: int, place: str, echo: str, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(path: str, body: bytes) -> Answer:
        text = ECHOES[echo](path, body if path == "/" else json.dumps(json.loads(body)[0]).encode())
        said = {
            "error": {"error": f"busy: {text}", "input": body.decode()},
            "nested": {"error": {"message": f"busy: {text}"}, "headers": {"Authorization": TOKEN}},
            "text": f"busy: {text}",
            "item": [{"error": f"busy: {text}"}] * len(json.loads(body)),
            "result": {"result": {"busy": [text, TOKEN]}},
        }[place]
        data = f"busy: {text}".encode() if place == "text" else json.dumps(said).encode()
        return Answer(status, {"X-Echo": TOKEN, "Retry-After": "60"}, data)

    environ.use(URL, TOKEN)
    caplog.set_level(logging.DEBUG)
    with answering(answer):
        assert not redis_save_order("5866", ORDER)
        assert not redis_save_orders({"5866": ORDER, "5867": ORDER})
        with pytest.raises(UpstashError) as caught:
            UpstashRedis(URL, TOKEN).set("order:5866", json.dumps(ORDER, ensure_ascii=False))
        with pytest.raises(UpstashError) as of_pipeline:
            UpstashRedis(URL, TOKEN).pipeline().set("k", str(ORDER)).get("k").execute()
    told = [record.getMessage() for record in caplog.records]
    told += [str(record.exc_info) for record in caplog.records]
    told += [str(caught.value), str(of_pipeline.value)]
    assert not [(line, data) for line in told for data in DATA if data in line]
    # The frames hold what the caller gave, but not the token.
    for error in (caught.value, of_pipeline.value):
        assert TOKEN not in shown_with_locals(error)
    assert all(line.isprintable() for line in told)


def test_a_refusal_is_told_apart_by_what_it_says_and_not_by_what_is_shown() -> None:
    text = "Zoë: request body too large"
    body = json.dumps({"error": text}).encode()
    with pytest.raises(RequestTooLargeError, match="refused without a reason"):
        interpret(Answer(400, {}, body), None, '["SET","k","Zoë"]'.encode(), Secret(TOKEN))
