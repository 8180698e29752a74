"""A table of wrong set-ups, with the row, the finding and the advice for each."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from tests.support.cli import TOKEN, Gate, names
from upstash_state.local import LocalEndpoint

from .conftest import ELSEWHERE, KV, KV_TOKEN, PASSWORD, URL, URL_TOKEN, Doctor

COPY = r"copy it from your database's page on console\.upstash\.com"
ROTATED = "it expires in 1 to 60 s: False"
#: In place of a value: the variable is not set.
GONE = "(gone)"


class Setup(NamedTuple):
    """Variables that are set beside or in place of a valid URL and token, and the finding."""

    name: str
    variables: dict[str, str]
    check: str
    found: str
    advice: str
    state: str = "wrong"


NONE = {URL: GONE, URL_TOKEN: GONE}
VARIABLES = [
    Setup("nothing", NONE, "variables", f"{URL} is not set, {URL_TOKEN} is not set", COPY),
    Setup("no token", {URL_TOKEN: GONE}, "variables", f"{URL_TOKEN} is not set", COPY),
    Setup("no URL", {URL: GONE}, "variables", f"{URL} is not set, {URL_TOKEN} is set", COPY),
    Setup("blank token", {URL_TOKEN: " "}, "variables", f"{URL_TOKEN} is blank", COPY),
    Setup("quotes alone", {URL: '""'}, "variables", f"{URL} is blank", COPY),
    Setup("half of Vercel's", NONE | {KV: ELSEWHERE}, "variables", f"{KV_TOKEN} is not set", COPY),
    Setup(
        "names of both kinds",
        {URL_TOKEN: GONE, KV_TOKEN: PASSWORD},
        "variables",
        f"{URL} is set, {URL_TOKEN} is not set, {KV} is not set, {KV_TOKEN} is set",
        "names that begin with UPSTASH_ and with KV_ are never mixed: rename one",
    ),
    Setup(
        "names of both kinds, the other way round",
        {URL: GONE, KV: ELSEWHERE},
        "variables",
        f"{KV_TOKEN} is not set",
        "never mixed",
    ),
    Setup(
        "Vercel's prefix",
        NONE | {f"STORAGE_{KV}": ELSEWHERE, f"STORAGE_{KV_TOKEN}": PASSWORD},
        "variables",
        "is not set",
        f"STORAGE_{KV} is set: rename it to {KV}",
    ),
    Setup(
        "a framework's prefix",
        {URL: GONE, f"NEXT_PUBLIC_{URL}": ELSEWHERE},
        "variables",
        f"{URL} is not set",
        f"NEXT_PUBLIC_{URL} is set: rename it to {URL}",
    ),
    Setup(
        "a slip in a name",
        {URL_TOKEN: GONE, "UPSTASH_REDIS_REST_TOKN": PASSWORD},
        "variables",
        f"{URL_TOKEN} is not set",
        f"UPSTASH_REDIS_REST_TOKN is set; did you mean {URL_TOKEN}",
    ),
    Setup(
        "a name in lower case",
        {URL: GONE, URL.lower(): ELSEWHERE},
        "variables",
        f"{URL} is not set",
        f"{URL.lower()} is set; did you mean {URL}",
    ),
    Setup(
        "the address over TCP only",
        {URL: GONE, "KV_URL": f"rediss://default:{PASSWORD}@sunny.upstash.io:6379"},
        "variables",
        f"{URL} is not set",
        "KV_URL is set, an address for Redis over TCP",
    ),
    Setup(
        "REDIS_URL only",
        NONE | {"REDIS_URL": f"redis://:{PASSWORD}@localhost"},
        "variables",
        f"{URL} is not set",
        "REDIS_URL is set, an address for Redis over TCP",
    ),
    Setup(
        "swapped",
        {URL: PASSWORD, URL_TOKEN: ELSEWHERE},
        "variables",
        f"{URL} and {URL_TOKEN} are swapped",
        "exchange their values",
    ),
    Setup(
        "swapped, without https://",
        {URL: PASSWORD, URL_TOKEN: "sunny-fox-12345.upstash.io"},
        "variables",
        "are swapped",
        "exchange",
    ),
    Setup(
        "the placeholder for the URL",
        {URL: "https://example-12345.upstash.io"},
        "URL",
        f"{URL} is the placeholder of .env.example",
        COPY,
    ),
    Setup(
        "the placeholder for the token",
        {URL_TOKEN: "replace-me"},
        "token",
        f"{URL_TOKEN} is the placeholder",
        COPY,
    ),
    Setup(
        "both pairs",
        {KV: ELSEWHERE, KV_TOKEN: PASSWORD},
        "variables",
        f"{KV} and {KV_TOKEN} too: not used",
        f"{URL} and {URL_TOKEN} are used",
        "warning",
    ),
    Setup(
        "quotes around the token",
        {URL_TOKEN: f'"{TOKEN}"'},
        "variables",
        f"{URL_TOKEN} has quotes or white space around it",
        "remove them",
        "warning",
    ),
    Setup(
        "a line end after the token",
        {URL_TOKEN: f"{TOKEN}\n"},
        "variables",
        f"{URL_TOKEN} has quotes or white space",
        "remove them",
        "warning",
    ),
]
HTTPS = "let it begin with https://"
URLS = [
    Setup("no scheme", {URL: "sunny.upstash.io"}, "URL", "has no https:// before", "add it"),
    Setup("no scheme, a port", {URL: "localhost.test:8079"}, "URL", "has no https://", "add it"),
    Setup("a slip in the scheme", {URL: "htps://sunny.upstash.io"}, "URL", "misspelt", HTTPS),
    Setup("one letter too many", {URL: "hhttps://sunny.upstash.io"}, "URL", "misspelt", HTTPS),
    Setup("one slash", {URL: "https:/sunny.upstash.io"}, "URL", "misspelt https://", HTTPS),
    Setup("three slashes", {URL: "https:///sunny.upstash.io"}, "URL", "misspelt", HTTPS),
    Setup("no colon", {URL: "https//sunny.upstash.io"}, "URL", "misspelt https://", HTTPS),
    Setup("backslashes", {URL: r"https:\\sunny.upstash.io"}, "URL", "misspelt", HTTPS),
    Setup("a semicolon", {URL: "https;//sunny.upstash.io"}, "URL", "misspelt https://", HTTPS),
    Setup("another scheme", {URL: "wss://sunny.upstash.io"}, "URL", "misspelt https://", HTTPS),
    Setup(
        "the address over TCP",
        {URL: f"rediss://default:{PASSWORD}@sunny.upstash.io:6379"},
        "URL",
        "Redis over TCP",
        COPY,
    ),
    Setup("${NAME}", {URL: "https://${HOST}"}, "URL", r"a reference, such as \$\{NAME\}", "itself"),
    Setup("{{ NAME }}", {URL: "{{ secrets.URL }}"}, "URL", "that nothing has replaced", "itself"),
    Setup("%NAME%", {URL: "%REDIS_URL%"}, "URL", "that nothing has replaced", "write the value"),
    Setup(
        "typographic quotes",
        {URL: "“https://sunny.upstash.io”"},
        "URL",
        "typographic quotes",
        "write plain ones",
    ),
    Setup("zero width space", {URL: f"\u200b{ELSEWHERE}"}, "URL", "an invisible character", COPY),
    Setup(
        "the console",
        {URL: f"https://console.upstash.com/redis/{PASSWORD}?teamid=0"},
        "URL",
        "is the address of the console",
        COPY,
    ),
    Setup("the website", {URL: "https://upstash.com/"}, "URL", "Upstash's website", COPY),
    Setup("QStash", {URL: "https://qstash.upstash.io"}, "URL", "another product", COPY),
    Setup("Vector", {URL: "https://sunny-vector.upstash.io"}, "URL", "another product", COPY),
    Setup(
        "a command",
        {URL: f"redis-cli --tls -u redis://default:{PASSWORD}@sunny.upstash.io:6379"},
        "URL",
        "is a command line",
        COPY,
    ),
    Setup("a query", {URL: f"{ELSEWHERE}?_token={PASSWORD}"}, "URL", "query or fragment", COPY),
    Setup("a user", {URL: f"https://u:{PASSWORD}@x.upstash.io"}, "URL", "user or password", COPY),
    Setup("the whole line", {URL: f"{URL}={ELSEWHERE}"}, "URL", f"the name {URL}", "alone"),
    Setup("something else", {URL: PASSWORD}, "URL", "not a URL that begins with https://", COPY),
    Setup("plain http", {URL: "http://sunny.upstash.io"}, "URL", "token in clear", "use https://"),
    Setup("a port of letters", {URL: f"{ELSEWHERE}:tls"}, "URL", "invalid", COPY),
    Setup("a blank inside", {URL: "https://sunny fox.upstash.io"}, "URL", "invalid", COPY),
]
TOKENS = [
    Setup("Bearer", {URL_TOKEN: f"Bearer {TOKEN}"}, "token", 'contains "Bearer "', "alone"),
    Setup("not ASCII", {URL_TOKEN: "Zoë"}, "token", f"{URL_TOKEN} contains characters", COPY),
    Setup("two words", {URL_TOKEN: "two words"}, "token", "a header cannot carry", COPY),
    Setup("two lines", {URL_TOKEN: "a\nb"}, "token", "a header cannot carry", COPY),
    Setup("“token”", {URL_TOKEN: "“token”"}, "token", "typographic quotes", "plain ones"),
    Setup("${TOKEN}", {URL_TOKEN: "${TOKEN}"}, "token", "nothing has replaced", "value itself"),
    Setup("the line", {URL_TOKEN: f"{URL_TOKEN}={TOKEN}"}, "token", "the name", "alone"),
    Setup("dots", {URL_TOKEN: "••••••••"}, "token", "the hidden text that the console", COPY),
    Setup("the URL twice", {URL_TOKEN: ELSEWHERE, URL: ELSEWHERE}, "token", "is a URL", COPY),
]
SETTINGS = [
    Setup(
        "a number that is none",
        {"UPSTASH_STATE_TTL": "a week"},
        "settings",
        "UPSTASH_STATE_TTL is not a whole number of seconds",
        "until then, 604800 s is used",
        "warning",
    ),
    Setup(
        "a flag that is none",
        {"UPSTASH_STATE_CATCH_UP": "true"},
        "settings",
        r"UPSTASH_STATE_CATCH_UP is not 1 \(yes\) or 0 \(no\)",
        "until then, yes is used",
        "warning",
    ),
    Setup(
        "more than half of the TTL",
        {"UPSTASH_STATE_TTL": "120", "UPSTASH_STATE_SKIP_UNCHANGED": "100"},
        "settings",
        "UPSTASH_STATE_SKIP_UNCHANGED is more than half",
        "until then, 60 s is used",
        "warning",
    ),
    Setup(
        "a slip in a setting's name",
        {"UPSTASH_STATE_TIMOUT": "3"},
        "settings",
        "UPSTASH_STATE_TIMOUT is not a setting",
        "did you mean UPSTASH_STATE_TIMEOUT",
        "warning",
    ),
    Setup(
        "a setting that does not exist",
        {"UPSTASH_STATE_PASSWORD": PASSWORD},
        "settings",
        "UPSTASH_STATE_PASSWORD is not a setting",
        "there are UPSTASH_STATE_",
        "warning",
    ),
]


@pytest.mark.parametrize(
    "setup", [pytest.param(row, id=row.name) for row in (*VARIABLES, *URLS, *TOKENS, *SETTINGS)]
)
def test_the_environment(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, setup: Setup
) -> None:
    for name, value in setup.variables.items():
        if value == GONE:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    say = doctor.finds if setup.state == "wrong" else doctor.warns
    say(setup.check, setup.found, setup.advice)
    assert few.usage().requests == 0 or setup.state == "warning"


def refusing(name: str, text: str, status: int = 400) -> Any:
    answer = status, json.dumps({"error": text})
    return lambda body: answer if name in ("", *names(body)) else None


def answering(name: str, result: object) -> Any:
    answer = 200, json.dumps({"result": result})
    return lambda body: answer if names(body) == [name] else None


class Answers(NamedTuple):
    """How the endpoint answers, and the finding."""

    name: str
    answer: Any
    check: str
    found: str
    advice: str
    state: str = "wrong"


ENDPOINT = [
    Answers(
        "the daily limit",
        refusing("", "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000"),
        "token",
        "max daily request limit exceeded",
        "wait for the new day or month",
    ),
    Answers(
        "the monthly limit",
        refusing("", "ERR max requests limit exceeded. Limit: 500000, Usage: 500000"),
        "token",
        "max requests limit exceeded",
        "wait for the new day or month",
    ),
    Answers(
        "a full database",
        refusing("SET", "ERR DB capacity quota exceeded. Limit: 268435456"),
        "probe order",
        "DB capacity quota exceeded",
        "delete old orders",
    ),
    Answers(
        "no SCAN",
        refusing("SCAN", "NOPERM this user has no permissions to run the 'scan' command"),
        "SCAN",
        "NOPERM",
        "this is the read-only token",
    ),
    Answers("an unknown refusal", refusing("", "ERR x"), "token", "ERR x", "troubleshooting"),
    *(
        Answers(
            f"a login page with status {status}",
            lambda body, status=status: (status, "<html><title>Please log in</title></html>"),
            "endpoint",
            "not an answer of",
            "a proxy or a login page",
        )
        for status in (200, 403, 404)
    ),
    Answers("down", lambda body: (503, ""), "endpoint", "HTTP status 503", "try again later"),
    Answers(
        "eviction",
        answering("INFO", "maxmemory_policy:optimistic-volatile\r\n"),
        "memory",
        r"eviction is on \(optimistic-volatile\)",
        "switch eviction off",
        "warning",
    ),
    Answers(
        "evicted keys",
        answering("INFO", "used_memory:10\r\nevicted_keys:1234\r\n"),
        "memory",
        "evicted to make room: 1,234 keys",
        "switch eviction off",
        "warning",
    ),
    Answers(
        "nearly full",
        answering("INFO", "used_memory:90\r\nmaxmemory:100\r\n"),
        "memory",
        "0.0 MB used of 0.0 MB",
        "nearly full",
        "warning",
    ),
    Answers("never expires", answering("TTL", -1), "probe order", ROTATED, "like Redis"),
    Answers("expires late", answering("TTL", 600), "probe order", ROTATED, "like Redis"),
    Answers("keeps nothing", answering("GET", None), "probe order", "it reads: None", "Redis"),
    Answers(
        "keeps something else",
        answering("GET", '{"name": "probe", "created_at": "2025-12-01T11:00:28+01:00"}'),
        "probe order",
        "it reads: {",
        "does not work like Redis",
    ),
    Answers("deletes nothing", answering("DEL", 1), "probe order", "after deletion", "like Redis"),
]


@pytest.mark.parametrize("setup", [pytest.param(row, id=row.name) for row in ENDPOINT])
def test_the_endpoint(gate: Gate, doctor: Doctor, setup: Answers) -> None:
    gate.answer = setup.answer
    (doctor.finds if setup.state == "wrong" else doctor.warns)(*setup[2:5])
    touched = [body[1] for body in gate.seen if names(body) in (["SET"], ["GET"], ["DEL"])]
    assert all(key.startswith("upstash-state-doctor:") for key in touched)


def test_there_are_at_least_52() -> None:
    assert len([*VARIABLES, *URLS, *TOKENS, *SETTINGS, *ENDPOINT]) >= 52
