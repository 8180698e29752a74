"""What can be wrong with an answer that is good HTTP: pages, refusals, and strange JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .connection import Connection, Request
from .fault import Catalogue, Fault, Kind, always

ANSWERS = Catalogue()

JSON = "application/json"
HTML = "text/html; charset=utf-8"


def on_one_command(connection: Connection) -> bool:
    return connection.read().path == "/"


def on_a_pipeline(connection: Connection) -> bool:
    return connection.read().path == "/pipeline"


def on_a_result_that_is_read(connection: Connection) -> bool:
    # Any answer to a PING but an error says what the PING was sent to find out.
    return connection.read().body != b'["PING"]'


def on(command: str) -> Callable[[Connection], bool]:
    return lambda connection: any(args[0] == command for args in _commands(connection.read()))


def _commands(request: Request) -> list[list[str]]:
    body = json.loads(request.body)
    return [body] if request.path == "/" else body


def page(
    name: str,
    kind: Kind,
    cause: str,
    status: int,
    body: bytes = b"<html><h1>Sorry</h1></html>",
    content_type: str = HTML,
    headers: Mapping[str, str] = {},
    fits: Callable[[Connection], bool] = always,
) -> Fault:
    """A fault that answers everything with the same page, and runs nothing."""

    def act(connection: Connection) -> None:
        connection.read()
        connection.reply(body, status=status, headers={"Content-Type": content_type, **headers})

    act.__name__ = name
    return ANSWERS.enter(kind, cause, fits=fits)(act)


page("html_with_200", Kind.BROKEN, "not an answer", 200)
page("html_with_400", Kind.REFUSAL, "400", 400)
page("html_with_401", Kind.REFUSAL, "401", 401)
page("html_with_403", Kind.REFUSAL, "403", 403)
page("html_with_404", Kind.REFUSAL, "404", 404)
page("html_with_405", Kind.REFUSAL, "405", 405)
page("html_with_413", Kind.REFUSAL, "413", 413)
page("html_with_500", Kind.PASSING, "500", 500)
page("html_with_502", Kind.PASSING, "502", 502)
page("html_with_503", Kind.PASSING, "503", 503)
page("html_with_504", Kind.PASSING, "504", 504)
page("html_with_408", Kind.PASSING, "408", 408)
# Waited for until the time budget ends, which may be in the middle of an attempt.
page("html_with_429", Kind.PASSING, "429|time budget", 429)
page("empty_with_200", Kind.BROKEN, "not an answer", 200, b"")
page("empty_with_204", Kind.BROKEN, "not an answer", 204, b"")
page("empty_with_400", Kind.REFUSAL, "400", 400, b"")
page("empty_with_500", Kind.PASSING, "500", 500, b"")
page("json_error_with_500", Kind.PASSING, "500", 500, b'{"error": "internal"}', JSON)
page("json_error_with_503", Kind.PASSING, "503", 503, b'{"error": "starting"}', JSON)
page("other_json_with_502", Kind.PASSING, "502", 502, b'{"message": "no upstream"}', JSON)


def retry_after(name: str, kind: Kind, value: str, status: int = 429) -> None:
    cause = f"{status}|time budget" if kind is Kind.PASSING else str(status)
    page(name, kind, cause, status, b"", headers={"Retry-After": value})


retry_after("retry_after_0_seconds", Kind.PASSING, "0")
retry_after("retry_after_a_date_that_has_passed", Kind.PASSING, "Wed, 21 Oct 2015 07:28:00 GMT")
retry_after("retry_after_too_many_seconds", Kind.REFUSAL, "3600")
retry_after("retry_after_a_date_too_far", Kind.REFUSAL, "Wed, 21 Oct 2099 07:28:00 GMT")
retry_after("retry_after_too_many_seconds_with_503", Kind.REFUSAL, "3600", 503)
retry_after("retry_after_words", Kind.PASSING, "soon")
retry_after("retry_after_a_negative_number", Kind.PASSING, "-1")
retry_after("retry_after_not_a_number", Kind.PASSING, "nan")
# `str.isdigit` takes it for a digit, `int` does not.
retry_after("retry_after_a_superscript", Kind.PASSING, "\xb2")
retry_after("retry_after_five_thousand_digits", Kind.PASSING, "9" * 5000)


def redirect(status: int) -> None:
    def act(connection: Connection) -> None:
        connection.read()
        connection.reply(b"", status=status, headers={"Location": connection.server.elsewhere})

    act.__name__ = f"redirect_{status}_to_another_host"
    ANSWERS.enter(Kind.REFUSAL, str(status))(act)


for status in (301, 302, 303, 307, 308):
    redirect(status)


def refusal(name: str, text: str, status: int = 400, cause: str | None = None) -> None:
    body = json.dumps({"error": text}).encode()
    page(name, Kind.REFUSAL, text[:20] if cause is None else cause, status, body, JSON)


refusal("wrong_token", "WRONGPASS invalid or missing auth token", 401)
refusal("wrong_token_in_other_words", "Unauthorized", 401)
refusal("wrong_token_with_200", "WRONGPASS invalid or missing auth token", 200)
refusal("no_permission", "NOPERM this user has no permissions to run the 'set' command")
refusal("daily_quota", "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.")
refusal("monthly_quota", "ERR max requests limit exceeded. Limit: 500000, Usage: 500000.")
refusal("request_too_large", "ERR max request size exceeded. Limit: 10485760 bytes")
refusal("record_too_large", "ERR max single record size exceeded. Limit: 104857600 bytes")
refusal("key_too_large", "ERR max key size exceeded. Limit: 32768 bytes, Actual: 40000 bytes")
refusal("capacity", "ERR DB capacity quota exceeded. Limit: 268435456 bytes")
refusal("wrong_type_of_key", "WRONGTYPE Operation against a key holding the wrong kind of value")
refusal("syntax", "ERR syntax error")
refusal("error_with_200", "ERR something", 200)
refusal("error_without_text", "", 400, cause="without")
refusal("error_in_two_lines", "ERR one\nERROR upstash_state: forged", cause="ERR one")
refusal("error_of_a_megabyte", "ERR " + "x" * 2**20, cause="ERR")


@ANSWERS.enter(Kind.REFUSAL, "WRONGPASS")
def error_that_holds_the_token(connection: Connection) -> None:
    sent = connection.read().headers["authorization"]
    connection.reply(json.dumps({"error": f"WRONGPASS {sent}"}).encode(), status=401)


@ANSWERS.enter(Kind.PASSING, "502")
def debug_page_that_holds_the_token(connection: Connection) -> None:
    dump = json.dumps(dict(connection.read().headers)).encode()
    connection.reply(dump, status=502, headers={"Content-Type": HTML})


@ANSWERS.enter(Kind.REFUSAL, "302")
def redirect_that_holds_the_token(connection: Connection) -> None:
    token = connection.read().headers["authorization"].removeprefix("Bearer ")
    target = f"{connection.server.elsewhere}?_token={token}"
    connection.reply(b"", status=302, headers={"Location": target})


@ANSWERS.enter(Kind.PASSING, "503")
def phrase_that_holds_the_token(connection: Connection) -> None:
    sent = connection.read().headers["authorization"]
    connection.send(f"HTTP/1.1 503 {sent}\r\nContent-Length: 0\r\n\r\n".encode())


def text(name: str, body: bytes, fits: Callable[[Connection], bool] = always) -> None:
    """A fault that answers with 200 and a body that is not an answer of the protocol."""
    page(name, Kind.BROKEN, "answer|JSON|result", 200, body, JSON, fits=fits)


text("null", b"null")
text("number", b"7")
text("string", b'"OK"')
text("array_for_one_command", b'[{"result": "OK"}]', on_one_command)
text("neither_result_nor_error", b"{}")
text("other_object", b'{"message": "OK"}')
page(
    "both_result_and_error",
    Kind.REFUSAL,
    "ERR both",
    200,
    b'{"result": "OK", "error": "ERR both"}',
    JSON,
)
text("error_that_is_no_text", b'{"error": 5}')
text("error_that_is_null", b'{"error": null}')
text("half_the_json", b'{"result": "O')
text("two_jsons", b'{"result": "OK"}{"result": "OK"}')
text("invalid_utf_8", b'{"result": "\xff\xfe\x00"}')
text("utf_16", '{"result": "OK"}'.encode("utf-16"), on_a_result_that_is_read)
text("deeply_nested_json", b'{"result": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
text("deeply_nested_and_unclosed_json", b"[" * 1_000_000)
text("integer_of_a_hundred_thousand_digits", b'{"result": %s}' % (b"9" * 100_000))
text("number_beyond_floats", b'{"result": 1e999}', on_a_result_that_is_read)
text("not_a_number", b'{"result": NaN}', on_a_result_that_is_read)
text("object_for_a_pipeline", b'{"result": []}', on_a_pipeline)
text("string_for_a_pipeline", b'"OK"', on_a_pipeline)
text("empty_array_for_a_pipeline", b"[]", on_a_pipeline)

page(
    "error_for_the_whole_pipeline",
    Kind.REFUSAL,
    "ERR pipeline",
    400,
    b'{"error": "ERR pipeline is not for you"}',
    JSON,
    fits=on_a_pipeline,
)


def altered(name: str, change: Callable[[Any], Any], fits: Callable[[Connection], bool]) -> None:
    """A fault that runs the commands, and answers with the right JSON value changed."""

    def act(connection: Connection) -> None:
        connection.reply(json.dumps(change(json.loads(connection.run()))).encode())

    act.__name__ = name
    ANSWERS.enter(Kind.BROKEN, "answer|result", fits=fits)(act)


def each_result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change to what is under "result", in one answer or in each of a pipeline's."""

    def item(answer: Any) -> Any:
        return {"result": change(answer["result"])} if "result" in answer else answer

    return lambda answer: [item(a) for a in answer] if isinstance(answer, list) else item(answer)


def of_another_type(result: Any) -> Any:
    return {int: "seven", list: {"0": "order:1"}}.get(type(result), 7)


@ANSWERS.enter(Kind.BROKEN, "cursor", fits=on("SCAN"))
def scan_that_never_ends(connection: Connection) -> None:
    """The walk goes through the last keys again and again. For a client that is taken in, it ends
    in the end, since a test must."""
    ends = connection.server.struck["scan_that_never_ends"] > 500
    again = scan(lambda cursor, keys: ["1" if cursor == "0" and not ends else cursor, keys])
    connection.reply(json.dumps(again(json.loads(connection.run()))).encode())


def mget(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    # A SCAN's list has a list in it, an MGET's has none.
    return each_result(lambda r: r if any(isinstance(v, list) for v in r) else change(r))


def scan(change: Callable[[str, list[str]], Any]) -> Callable[[Any], Any]:
    return each_result(lambda r: change(*r) if any(isinstance(v, list) for v in r) else r)


altered("result_of_another_type", each_result(of_another_type), on_a_result_that_is_read)
altered("result_in_an_array", each_result(lambda r: [[r]]), on_a_result_that_is_read)
altered("result_in_an_object", each_result(lambda r: {"value": r}), on_a_result_that_is_read)
altered("result_that_is_a_boolean", each_result(lambda r: False), on_a_result_that_is_read)
altered("mget_with_a_value_missing", mget(lambda values: values[:-1]), on("MGET"))
altered("mget_with_a_value_too_many", mget(lambda values: [*values, "{}"]), on("MGET"))
altered("mget_with_numbers", mget(lambda values: [7 for _ in values]), on("MGET"))
altered("scan_without_a_cursor", scan(lambda cursor, keys: keys), on("SCAN"))
altered("scan_with_a_cursor_of_words", scan(lambda cursor, keys: ["on", keys]), on("SCAN"))
altered("scan_with_numbers", scan(lambda cursor, keys: [cursor, [7, 8]]), on("SCAN"))
altered("scan_with_null_for_keys", scan(lambda cursor, keys: [cursor, None]), on("SCAN"))
altered("pipeline_with_an_item_missing", lambda items: items[:-1], on_a_pipeline)
altered("pipeline_with_an_item_too_many", lambda items: [*items, {"result": None}], on_a_pipeline)
altered("pipeline_with_a_null_item", lambda items: [None, *items[1:]], on_a_pipeline)
altered("pipeline_with_a_text_item", lambda items: ["OK", *items[1:]], on_a_pipeline)
altered("pipeline_with_an_empty_item", lambda items: [{}, *items[1:]], on_a_pipeline)
altered("pipeline_of_bare_results", lambda items: [i["result"] for i in items], on_a_pipeline)
