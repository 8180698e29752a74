"""What a recording looks like, that it loads back the same, and what is refused in one."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upstash_state import serialize_order
from upstash_state.recording import file
from upstash_state.recording.exchange import HEADERS, Exchange, RecordingError, Request
from upstash_state.recording.file import dump, load, read, write
from upstash_state.recording.match import Varying
from upstash_state.settings import Secret
from upstash_state.transport import Answer

TOKEN = "AYNgASQgNGY3-not-a-real-one/c0ffee"
NONE = Varying()
SAVED = Exchange(
    Request("/", (("SET", "order:1", '{"name": "Zoë", "time": "14:30"}', "EX", "604800"),)),
    200,
    b'{"result":"OK"}',
)

texts = st.text(st.characters(codec=None) | st.sampled_from("\x85\u2028\n\n \t:#-|"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
orders = st.dictionaries(texts, values, max_size=5).map(serialize_order)
# The client refuses lone surrogates.
sendable = texts.map(lambda text: text.encode(errors="replace").decode())
arguments = sendable | orders | orders.map(lambda text: text.replace(", ", ","))
commands = st.lists(arguments, min_size=1, max_size=5).map(tuple)
requests = st.builds(Request, st.just("/"), commands.map(lambda command: (command,))) | st.builds(
    Request,
    st.sampled_from(["/pipeline", "/multi-exec"]),
    st.lists(commands, max_size=3).map(tuple),
)
results = st.recursive(
    st.none() | st.integers() | arguments | texts, lambda inner: st.lists(inner, max_size=4)
)
items = st.fixed_dictionaries({"result": results}) | st.fixed_dictionaries({"error": texts})
answers = (items | st.lists(items, max_size=3)).map(lambda answer: json.dumps(answer).encode())
exchanges = st.builds(
    Exchange.reduced,
    requests,
    st.builds(
        Answer,
        st.integers(100, 599),
        st.dictionaries(st.sampled_from([*HEADERS, "Server"]), st.text(max_size=10)),
        answers
        | st.binary(max_size=20)
        | st.text("ab \t\r\n\x85\u2028\ufeff#'", max_size=9).map(str.encode),
    ),
    st.booleans(),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(exchanges, max_size=3))
def test_exchanges_load_back_the_same(some: list[Exchange]) -> None:
    text = dump(some)
    assert load(text) == some
    with pytest.MonkeyPatch.context() as without_libyaml:
        without_libyaml.setattr(file, "_Loader", yaml.SafeLoader)
        assert load(text) == some


SEVERAL_LINES = [
    *("\n", " \n", "\n\n", "a\n", "a\n\n", "a\n\nb", " a\nb", "a \nb ", "\ta\nb", "- a\n- b"),
    *("a\r\nb", "\n- path: /", "a\n- path: /\n", "{}\n", '{"a": 1}\n', "é\nü\n", "a\u2028b\n"),
]


@pytest.mark.parametrize("text", SEVERAL_LINES)
def test_text_of_several_lines_loads_back_the_same(text: str) -> None:
    answer = json.dumps([{"error": text}, {"result": [text, None, [text]]}]).encode()
    request = Request("/pipeline", (("SET", "k", text), (text, "k")))
    some = [
        Exchange.reduced(request, Answer(200, {}, answer)),
        Exchange(Request("/", (("PING",),)), 502, text.encode()),
    ]
    assert load(dump(some * 2)) == some * 2


@settings(deadline=None, max_examples=50)
@given(orders)
def test_a_stored_order_is_written_as_indented_json(text: str) -> None:
    written = dump([Exchange(Request("/", (("SET", "k", text),)), 200, b'{"result":null}')])
    (value,) = (arg for arg in yaml.safe_load(written)["exchanges"][0]["command"][2:])
    assert value.keys() == {"json"}
    assert json.dumps(json.loads(value["json"])) == json.dumps(json.loads(text))
    assert "json: |\n" in written


def test_a_recording_is_made_to_be_read() -> None:
    pipeline = Exchange(
        Request("/pipeline", (("MGET", "order:1", "order:2"), ("DBSIZE",))),
        200,
        json.dumps([{"result": ['{"tip": 2.5}', None]}, {"error": "ERR no"}]).encode(),
        in_teardown=True,
    )
    page = Exchange(
        Request("/", (("PING",),)),
        429,
        b"<p>Slow down</p>\n",
        {"Retry-After": "3"},
    )
    assert dump([SAVED, pipeline, page]) == (
        """\
# Requests to an Upstash REST endpoint and its answers, recorded by upstash_state for review.
# "json: |" marks text that Redis stores on one line, indented here.
format: 1
exchanges:
- path: /
  command:
  - SET
  - order:1
  - json: |
      {
        "name": "Zoë",
        "time": "14:30"
      }
  - EX
  - '604800'
  status: 200
  answer: {result: OK}

- path: /pipeline
  commands:
  - [MGET, 'order:1', 'order:2']
  - [DBSIZE]
  phase: teardown
  status: 200
  answer:
  - result:
    - json: |
        {
          "tip": 2.5
        }
    - null
  - {error: ERR no}

- path: /
  command: [PING]
  status: 429
  headers: {Retry-After: '3'}
  body: |
    <p>Slow down</p>
"""
    )


def test_only_headers_that_matter_are_kept() -> None:
    headers = {"Content-Type": "application/json", "Server": "x", "Upstash-Sync-Token": "y"}
    asked = Request("/", (("PING",),))
    assert Exchange.reduced(asked, Answer(200, headers, b'{"result":"PONG"}')).headers == {}
    kept = Exchange.reduced(asked, Answer(502, {**headers, "Retry-After": "1"}, b"")).headers
    assert kept == {"Retry-After": "1"}


BEGIN = "format: 1\nexchanges:\n- "
PING = BEGIN + "{path: /, command: [PING], status: 200"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a recording: it has no format version"),
        ("- a\n- b\n", "is not a recording: it has no format version"),
        ("exchanges: []\n", "is not a recording: it has no format version"),
        ("format: 2\nexchanges: []\n", "has a format other than 1, so it needs another version"),
        ("format: true\nexchanges: []\n", "has a format other than 1"),
        ("format: '1'\nexchanges: []\n", "has a format other than 1"),
        (f"format: 0x{'f' * 5000}\nexchanges: []\n", "has a format other than 1"),
        ("format: 1\n", "besides its format it must hold one list, exchanges"),
        ("format: 1\nexchanges: []\nurl: x\n", "besides its format it must hold one list"),
        ("format: 1\nexchanges: [\n", "is not readable YAML: .* line 3, column 1"),
        ("format: !!python/name:os.system\n", "is not readable YAML"),
        ("format: 1\nexchanges: " + "[" * 9000, "is not readable YAML"),
        ("format: 2026-99-99\nexchanges: []\n", "is not readable YAML: month must be in 1..12"),
        ("format: !!timestamp x\nexchanges: []\n", "is not readable YAML"),
        ("format: !!bool x\nexchanges: []\n", "is not readable YAML"),
        ("format: !!int x\nexchanges: []\n", "is not readable YAML"),
        ("format: 1\nexchanges: [{[a]: b}]\n", "is not readable YAML"),
        ("format: &a 1\nexchanges: [*a]\n", "has YAML aliases"),
        (BEGIN + "PING\n", "exchange 1: it is not a mapping"),
        (BEGIN + "{path: /, token: x}\n", "exchange 1: it has no command"),
        (BEGIN + "{path: /get/foo, commands: []}\n", "path must be one of /, /pipeline, /multi-ex"),
        (PING + ", body: x, token: x}\n", "exchange 1: token cannot be 'x'"),
        (PING + ", body: x, commands: [[GET, k]]}\n", "command cannot be"),
        (
            BEGIN + "{path: /, commands: [[GET, k]], status: 200, answer: {result: 1}}\n",
            "commands c",
        ),
        (
            BEGIN + "{path: /pipeline, command: [GET], status: 200, answer: []}\n",
            "command cannot be",
        ),
        (
            BEGIN + "{path: /pipeline, commands: [GET, k], status: 200, answer: []}\n",
            "commands cann",
        ),
        (
            BEGIN + "{path: /pipeline, commands: 1, status: 200, answer: []}\n",
            "exchange 1: .*iterable",
        ),
        (BEGIN + "{path: /, command: []}\n", "a command begins with its name"),
        (BEGIN + "{path: /, command: [EXPIRE, k, 60]}\n", "60 is not text: put it in quotes"),
        (BEGIN + "{path: /, command: [SET, k, 14:30]}\n", "870 is not text: put it in quotes"),
        (BEGIN + "{path: /, command: [SET, k, {json: '{'}]}\n", "exchange 1: Expecting property"),
        (BEGIN + "{path: /, command: [SET, k, {yaml: a}]}\n", "is not text"),
        (BEGIN + "{path: /, command: [PING]}\n", "exchange 1: it has no status"),
        (BEGIN + "{path: /, command: [PING], status: OK}\n", "status must be a number from 100 to"),
        (
            BEGIN + "{path: /, command: [PING], status: true}\n",
            "status must be a number from 100 to",
        ),
        (
            BEGIN + "{path: /, command: [PING], status: 99}\n",
            "status must be a number from 100 to 5",
        ),
        (BEGIN + "{path: /, command: [PING], status: 200}\n", "exchange 1: it has no body"),
        (PING + ", answer: PONG}\n", "answer cannot be 'PONG'"),
        (PING + ", answer: {result: 1.5}}\n", "answer cannot be {'result': 1.5}"),
        (PING + ", answer: {result: no}}\n", "answer cannot be {'result': False}"),
        (PING + ", answer: {result: 1}, body: x}\n", "body cannot be 'x'"),
        (PING + ", body: 1}\n", "1 is not text: put it in quotes"),
        (PING + ", body: !!binary YQ==}\n", "body cannot be b'a'"),
        (PING + ", body: '', headers: {Date: x}}\n", "may hold Retry-After and Content-Type"),
        (PING + ", body: '', headers: {Retry-After: 3}}", "3 is not text: put it in quotes"),
        (PING + ", body: '', headers: [x]}", "exchange 1: 'list' object has no attribute 'items'"),
        (PING + ", body: '', phase: call}\n", "phase cannot be 'call'"),
        (PING + f", body: '', headers: {{Retry-After: 0x{'f' * 5000}}}}}", "mistake in exchange 1"),
        ("format: 1\nexchanges:\n- {}\n", "exchange 1: it has no command"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        load(text)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "eu1-merry-cat-31415.example.com",
        "EU1-Merry-Cat-31415.example.com",
        f"https://eu1-merry-cat-31415.example.com/get/foo?_token={TOKEN}",
    ],
)
@pytest.mark.parametrize("place", ["key", "value", "answer", "error", "page", "header"])
def test_a_secret_is_neither_written_nor_loaded(tmp_path: Path, secret: str, place: str) -> None:
    path = tmp_path / "r.yaml"
    known = {Secret(TOKEN), Secret("eu1-merry-cat-31415.example.com")}
    key, value, headers = "order:1", "{}", {}
    body = b'{"result":"OK"}'
    if place == "key":
        key += f":{secret}"
    elif place == "value":
        value = serialize_order({"note": {"deep": f"see {secret} \u2028 there"}})
    elif place == "answer":
        body = json.dumps([{"result": [None, ["0", f"({secret})"]]}]).encode()
    elif place == "error":
        body = json.dumps({"error": f"WRONGPASS {secret}"}).encode()
    elif place == "page":
        body = f"<p>{secret}</p>".encode()
    else:
        headers = {"Retry-After": secret}
    exchange = Exchange(Request("/", (("SET", key, value),)), 200, body, headers)
    with pytest.raises(RecordingError, match=r"not written: exchange 2 .* holds") as refused:
        write(path, [SAVED, exchange], known, NONE)
    assert secret not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    path.write_text(dump([SAVED, exchange]), encoding="utf-8")
    with pytest.raises(RecordingError, match=r"holds .*reset the token on console") as refused:
        read(path, known)
    assert secret not in str(refused.value)


def bombs() -> Iterator[str]:
    """Files of a few hundred bytes that stand for more than any memory holds."""
    for item, start in (("[{}]", "[x]"), ("{{<<: [{}]}}", "{k: v}")):
        lines = [f"a0: &a0 {start}"]
        for depth in range(1, 20):
            aliases = ", ".join([f"*a{depth - 1}"] * 9)
            lines.append(f"a{depth}: &a{depth} " + item.format(aliases))
        yield "\n".join([*lines, "format: 1", "exchanges: *a19", ""])


@pytest.mark.parametrize("loader", [file._Loader, yaml.SafeLoader])
@pytest.mark.parametrize("bomb", [*bombs()], ids=["list", "merge"])
def test_aliases_are_refused_before_they_are_followed(
    bomb: str, loader: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_Loader", loader)
    with pytest.raises(RecordingError, match="has YAML aliases"):
        load(bomb)


@pytest.mark.parametrize(
    "text", ["0123456789abcdef" * 2500, "a-b_" * 10_000, "\\" * 40_000, "rediss://" * 5000]
)
def test_long_text_takes_no_time(tmp_path: Path, text: str) -> None:
    """What grew with the square of its length took a minute."""
    exchange = Exchange(Request("/", (("SET", "k", text),)), 200, b'{"result":"OK"}')
    begin = process_time()
    write(tmp_path / "r.yaml", [exchange], {Secret(TOKEN)}, NONE)
    assert read(tmp_path / "r.yaml", {Secret(TOKEN)}) == [exchange]
    assert process_time() - begin < 10


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in text)


FORMS = {
    "base64": lambda text: b64encode(text.encode()).decode(),
    "Basic": lambda text: "Basic " + b64encode(f"default:{text}".encode()).decode(),
    "Basic, another name": lambda text: b64encode(f"abcd:{text}".encode()).decode(),
    "base64, inside": lambda text: b64encode(f"ab{text}cd".encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(f"a?{text}??".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "percent": percent,
    "percent, twice": lambda text: percent(percent(text)),
    "percent, where needed": lambda text: text.replace("-", "%2d"),
    "JSON": escaped,
    "JSON in JSON": lambda text: json.dumps({"deep": escaped(text)}),
    "Python": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "percent in JSON": lambda text: escaped(percent(text)),
    "JSON, some characters": lambda text: text.replace("-", "\\u002d").replace("/", "\\/"),
    "JSON, a slash": lambda text: text.replace("/", "\\/"),
    "JSON in JSON, a slash": lambda text: json.dumps(json.dumps(text.replace("/", "\\/"))),
    "HTML": lambda text: text.replace("-", "&#45;").replace("/", "&#x2F;"),
}


@pytest.mark.parametrize("secret", [TOKEN, TOKEN + "4", TOKEN + "42", "b?~>>" + TOKEN])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_other_forms(tmp_path: Path, form: str, secret: str) -> None:
    text = FORMS[form](secret)
    assert secret not in text
    path = tmp_path / "r.yaml"
    exchange = Exchange(Request("/", (("GET", f"k:{text}"),)), 200, b'{"result":"OK"}')
    with pytest.raises(RecordingError, match="holds the token"):
        write(path, [exchange], {Secret(secret)}, NONE)
    path.write_text(dump([exchange]), encoding="utf-8")
    with pytest.raises(RecordingError, match="holds the token"):
        read(path, {Secret(secret)})


@pytest.mark.parametrize(
    "text",
    [
        *("upstash.io", "https://other.upstash.io", "Basic authentication is explained here"),
        *(
            "100%",
            "%41%59%4E%67%41%53%51%67" * 7,
            "\\u0041" * 48,
            r"C:\x41\u0041\new",
            "Bearer " * 9,
        ),
        *("AYNg" + "ASQg" + "Y" * 40, "Authorization: Bearer abcdefghijklmnop", "/get?_token=abc"),
    ],
)
def test_only_the_tokens_and_hosts_in_use_are_refused(tmp_path: Path, text: str) -> None:
    exchange = Exchange(Request("/", (("MGET", text),)), 200, b'{"result":"OK"}')
    write(tmp_path / "r.yaml", [exchange], {Secret(TOKEN), Secret("short"), Secret("")}, NONE)
    assert read(tmp_path / "r.yaml", {Secret(TOKEN)}) == [exchange]


def test_a_files_name_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / f"test[{TOKEN.replace('/', '-')}].yaml"
    with pytest.raises(RecordingError, match="or the file's name holds the token"):
        write(path, [SAVED], {Secret(TOKEN.replace("/", "-"))}, NONE)


def test_a_secret_is_found_behind_escapes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    text = dump([SAVED]).replace("order:1", '"order:{}"'.format(TOKEN.replace("-", "\\x2D")))
    path.write_text(text, encoding="utf-8")
    assert TOKEN not in text
    with pytest.raises(RecordingError, match="holds the token"):
        read(path, {Secret(TOKEN)})


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "r.yaml"
    write(path, [SAVED], (), NONE)
    write(path, [SAVED, SAVED], (), NONE)
    assert read(path) == [SAVED, SAVED]
    assert list(path.parent.iterdir()) == [path]
    assert b"\r" not in path.read_bytes()


# What a slip of the hand, a merge or an editor may do to a file.
EDITS = ["", " ", "\n", "-", "- ", ":", "{", "}", "[", "]", "'", '"', "&a ", "*a", "!!int ", "!!x "]
EDITS += [
    "0x",
    "1" * 5000,
    ".inf",
    "null",
    "~",
    "<<: ",
    "? ",
    "| ",
    "%",
    "\x00",
    "\ud800",
    "\u2028",
]
FILE = dump(
    [
        SAVED,
        Exchange(
            Request("/pipeline", (("GET", "a"), ("PING",))), 503, b"<p>\n", {"Retry-After": "1"}
        ),
        Exchange(
            Request("/multi-exec", (("GET", "a"),)), 200, b'[{"result":["0",null]}]', {}, True
        ),
        Exchange(Request("/", (("PING",),)), 200, b"\xff"),
    ]
)


@settings(deadline=None, max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(FILE)),
            st.integers(0, 30),
            st.sampled_from(EDITS) | st.text(max_size=3),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_an_edited_file_is_a_recording_or_refused(edits: list[tuple[int, int, str]]) -> None:
    text = FILE
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    with suppress(RecordingError):
        some = load(text)
        assert load(dump(some)) == some


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_any_file_is_a_recording_or_refused(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "r.yaml")
        for content in (data, b"format: 1\nexchanges: " + data, b"format: " + data):
            path.write_bytes(content)
            with suppress(RecordingError):
                read(path)
