"""What a recording looks like, that it loads back the same, and what is refused in one."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upstash_state import serialize_order
from upstash_state.recording import file
from upstash_state.recording.exchange import KEPT_HEADERS, Exchange, RecordingError, Request
from upstash_state.recording.file import dump, load
from upstash_state.recording.storage import read, secrets_in, write
from upstash_state.transport import Answer

TOKEN = "AYNgASQgNGY3-not-a-real-one-c0ffee"
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
        st.dictionaries(st.sampled_from([*KEPT_HEADERS, "Server"]), st.text(max_size=10)),
        answers
        | st.binary(max_size=20)
        | st.text("ab \t\r\n\x85\u2028\ufeff#'", max_size=9).map(str.encode),
    ),
    st.booleans(),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(exchanges, max_size=3))
def test_exchanges_load_back_the_same(some: list[Exchange]) -> None:
    assert load(dump(some)) == some


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
@given(st.lists(exchanges, max_size=3))
def test_exchanges_load_back_the_same_without_libyaml(some: list[Exchange]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_Loader", yaml.SafeLoader)
        assert load(dump(some)) == some


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
        {"Retry-After": "3", "Content-Type": "text/html"},
    )
    assert dump([SAVED, pipeline, page]) == (
        """\
# What an Upstash REST endpoint answered, recorded by upstash_state. Made to be read and reviewed.
# Under "json: |" stands text as Redis holds it, indented for reading.
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
  headers: {Retry-After: '3', Content-Type: text/html}
  body: |
    <p>Slow down</p>
"""
    )


def test_only_headers_that_matter_are_kept() -> None:
    headers = {"Content-Type": "application/json", "Server": "x", "Upstash-Sync-Token": "y"}
    asked = Request("/", (("PING",),))
    assert Exchange.reduced(asked, Answer(200, headers, b'{"result":"PONG"}')).headers == {}
    assert Exchange.reduced(asked, Answer(502, {**headers, "Retry-After": "1"}, b"")).headers == {
        "Retry-After": "1",
        "Content-Type": "application/json",
    }


BEGIN = "format: 1\nexchanges:\n- "


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no recording: it has no format version"),
        ("- a\n- b\n", "is no recording: it has no format version"),
        ("exchanges: []\n", "is no recording: it has no format version"),
        ("format: 2\nexchanges: []\n", "has format 2, but 1 is read here: upgrade"),
        ("format: true\nexchanges: []\n", "has format True"),
        ("format: '1'\nexchanges: []\n", "has format '1'"),
        ("format: 1\n", "next to its format it holds one list, exchanges"),
        ("format: 1\nexchanges: []\nurl: x\n", "next to its format it holds one list"),
        ("format: 1\nexchanges: [\n", "is not readable YAML: .* line 3, column 1"),
        ("format: !!python/name:os.system\n", "is not readable YAML"),
        ("format: 1\nexchanges: " + "[" * 9000, "is not readable YAML"),
        ("format: 2026-99-99\nexchanges: []\n", "is not readable YAML: month must be in 1..12"),
        ("format: !!timestamp x\nexchanges: []\n", "is not readable YAML"),
        ("format: !!bool x\nexchanges: []\n", "is not readable YAML"),
        ("format: !!int x\nexchanges: []\n", "is not readable YAML"),
        ("format: 1\nexchanges: [{[a]: b}]\n", "is not readable YAML"),
        ("format: &a 1\nexchanges: [*a]\n", "has YAML aliases"),
        (BEGIN + "PING\n", "exchange 1: it is no mapping"),
        (BEGIN + "{path: /, token: x}\n", "exchange 1: 'token' is no key of the format"),
        (
            BEGIN + "{path: /get/foo}\n",
            "path must be one of /, /pipeline, /multi-exec, not '/get/foo'",
        ),
        (BEGIN + "{path: /, commands: [[GET, k]]}\n", "path / goes with a list under 'command'"),
        (BEGIN + "{path: /pipeline, command: [GET]}\n", "goes with a list under 'commands'"),
        (BEGIN + "{path: /pipeline, commands: [GET, k]}\n", "each command must be a list"),
        (BEGIN + "{path: /, command: []}\n", "a list that begins with its name"),
        (BEGIN + "{path: /, command: [EXPIRE, k, 60]}\n", "60 is not text: put it in quotes"),
        (BEGIN + "{path: /, command: [SET, k, 14:30]}\n", "870 is not text: put it in quotes"),
        (BEGIN + "{path: /, command: [SET, k, {json: '{'}]}\n", "exchange 1: Expecting property"),
        (BEGIN + "{path: /, command: [SET, k, {yaml: a}]}\n", "is not text"),
        (BEGIN + "{path: /, command: [PING], status: OK}\n", "status must be a number"),
        (
            BEGIN + "{path: /, command: [PING], status: 200}\n",
            "one of answer, body and body_base64",
        ),
        (BEGIN + "{path: /, command: [PING], status: 200, answer: PONG}\n", "a result or an error"),
        (
            BEGIN + "{path: /, command: [PING], status: 200, answer: {result: 1.5}}\n",
            "a result or an error",
        ),
        (
            BEGIN + "{path: /, command: [PING], status: 200, body: 1}\n",
            "1 is not text: put it in quotes",
        ),
        (BEGIN + "{path: /, command: [PING], status: 200, body_base64: a}\n", "not base64"),
        (
            BEGIN + "{path: /, command: [PING], status: 200, body: '', headers: {Date: x}}\n",
            "headers may hold Retry-After and Content-Type, and no others",
        ),
        (
            BEGIN + "{path: /, command: [PING], status: 200, body: '', headers: {Retry-After: 3}}",
            "3 is not text: put it in quotes",
        ),
        (
            BEGIN + "{path: /, command: [PING], status: 200, body: '', phase: call}\n",
            "phase can only be teardown, not 'call'",
        ),
        ("format: 1\nexchanges:\n- {}\n", "exchange 1: path must be"),
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
        "Bearer abcdefghijklmnopqrstuvwxyz",
        "AYNg" + "ASQg" + "Y" * 40,
        "https://eu1-merry-cat-31415.upstash.io",
        "/get/foo?_token=abc",
        "rediss://default:abc@host:6379",
    ],
)
@pytest.mark.parametrize("place", ["key", "value", "answer", "error", "page", "header"])
def test_a_secret_is_neither_written_nor_loaded(tmp_path: Path, secret: str, place: str) -> None:
    path = tmp_path / "r.yaml"
    known = {TOKEN, "eu1-merry-cat-31415.example.com"}
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
    with pytest.raises(RecordingError, match=r"not written: exchange 2 \(SET\) holds") as refused:
        write(path, [SAVED, exchange], known)
    assert secret not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    path.write_text(dump([SAVED, exchange]), encoding="utf-8")
    with pytest.raises(RecordingError, match=r"holds .*reset it on console\.upstash") as refused:
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
    write(tmp_path / "r.yaml", [exchange], {TOKEN})
    assert read(tmp_path / "r.yaml", {TOKEN}) == [exchange]
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
}


@pytest.mark.parametrize("secret", [TOKEN, TOKEN + "4", TOKEN + "42", "b?~>>" + TOKEN])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_other_forms(tmp_path: Path, form: str, secret: str) -> None:
    text = FORMS[form](secret)
    assert secret not in text
    path = tmp_path / "r.yaml"
    exchange = Exchange(Request("/", (("GET", f"k:{text}"),)), 200, b'{"result":"OK"}')
    with pytest.raises(RecordingError, match="holds the token"):
        write(path, [exchange], {secret})
    path.write_text(dump([exchange]), encoding="utf-8")
    with pytest.raises(RecordingError, match="holds the token"):
        read(path, {secret})


@pytest.mark.parametrize("form", ["percent", "JSON", "Python"])
def test_what_looks_like_a_secret_is_found_behind_escapes(form: str) -> None:
    text = FORMS[form]("https://eu1-merry-cat-31415.upstash.io")
    exchange = Exchange(Request("/", (("GET", text),)), 200, b'{"result":"OK"}')
    with pytest.raises(RecordingError, match="holds an Upstash host"):
        write(Path("never.yaml"), [exchange])


def test_other_text_is_no_secret(tmp_path: Path) -> None:
    texts = ["upstash.io", "see www.upstash.iona", "Basic authentication is explained here", "100%"]
    exchange = Exchange(Request("/", (("MGET", *texts),)), 200, b'{"result":"OK"}')
    write(tmp_path / "r.yaml", [exchange], {TOKEN, "short"})


def test_a_secret_is_found_behind_escapes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    text = dump([SAVED]).replace("order:1", '"order:{}"'.format(TOKEN.replace("-", "\\x2D")))
    path.write_text(text, encoding="utf-8")
    assert TOKEN not in text
    with pytest.raises(RecordingError, match="holds the token"):
        read(path, {TOKEN})


def test_the_environments_secrets_are_its_tokens_and_hosts_but_not_loopback() -> None:
    secrets = secrets_in(
        {
            "UPSTASH_REDIS_REST_URL": ' "https://eu1-merry-cat-31415.upstash.io/" ',
            "UPSTASH_REDIS_REST_TOKEN": f"'{TOKEN}'\n",
            "KV_REST_API_URL": "http://127.0.0.1:8079",
        }
    )
    plain = {secret.reveal() for secret in secrets}
    assert plain - {""} == {"eu1-merry-cat-31415.upstash.io", TOKEN}
    # Where a traceback shows local variables.
    assert TOKEN not in repr(secrets)
    none = secrets_in({"UPSTASH_REDIS_REST_URL": "http://[", "KV_REST_API_URL": ""})
    assert {secret.reveal() for secret in none} == {""}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "r.yaml"
    write(path, [SAVED])
    write(path, [SAVED, SAVED])
    assert read(path) == [SAVED, SAVED]
    assert list(path.parent.iterdir()) == [path]
    assert b"\r" not in path.read_bytes()
