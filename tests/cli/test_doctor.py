"""The doctor against every wrong set-up that is known: what it finds, what it says to do."""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.cli import (
    SECONDS,
    TOKEN,
    Gate,
    Outcome,
    Terminal,
    Tool,
    environment,
    names,
    piped,
)
from tests.support.faults import Certificates
from tests.support.paths import ROOT
from tests.support.servers import free_port
from upstash_state import UpstashRedis
from upstash_state.cli.doctor import database
from upstash_state.local import LocalEndpoint

URL, URL_TOKEN = "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"
KV, KV_TOKEN = "KV_REST_API_URL", "KV_REST_API_TOKEN"
ELSEWHERE = "https://sunny-fox-12345.upstash.io"
PASSWORD = "hunter2-hunter2"
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
CHECKS = [
    "variables",
    "URL",
    "settings",
    "endpoint",
    "token",
    "writing",
    "SCAN",
    "pipeline",
    "transaction",
    "round trip",
    "memory",
    "orders",
    "probe order",
]


@pytest.fixture
def few(few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalEndpoint:
    """An empty endpoint in memory, which the environment names, and no file .env."""
    monkeypatch.chdir(tmp_path)
    return few


@pytest.fixture
def gate(few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """In front of the endpoint; the environment names it."""
    with Gate(few.url).open() as gate:
        monkeypatch.setenv(URL, gate.url)
        yield gate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Doctor:
    """Examines this process's environment."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def run(self) -> Outcome:
        """Whatever it finds."""
        return self._tool("doctor")

    def finds(self, check: str, found: str, advice: str) -> None:
        """It ends at a check, with a finding and an advice (regular expressions)."""
        status, out, err = self._tool("doctor")
        *before, line, arrow, empty, summary = out.splitlines()
        assert (status, err) == (1, "")
        assert (empty, summary.partition(" is wrong")[0]) == ("", "One thing")
        assert re.fullmatch(rf"wrong    {check:11} .*{found}.*", line), out
        assert re.fullmatch(rf" {{21}}-> .*{advice}.*", arrow), out
        assert not any(line.startswith("wrong") for line in before)
        checked = [line[9:20].strip() for line in before if not line.startswith(" ")]
        assert list(dict.fromkeys(checked)) == CHECKS[: CHECKS.index(check)]
        assert PASSWORD not in out

    def warns(self, check: str, found: str, advice: str) -> None:
        """Nothing is wrong, but there is a warning."""
        status, out, err = self._tool("doctor")
        assert (status, err) == (0, ""), out
        assert re.search(rf"^warning  {check:11} .*{found}.*\n {{21}}-> .*{advice}", out, re.M), out
        assert re.search(r"\n\nIt works, with [1-9] warnings?\.\n$", out)
        assert PASSWORD not in out


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(Tool(capsys))


def checks(out: str) -> list[str]:
    return [line[9:20].strip() for line in out.partition("\n\n")[0].splitlines()]


def test_all_is_well(real_endpoint: LocalEndpoint, tcp: redis.Redis) -> None:
    tcp.set("order:1", "{}", ex=100)
    status, out, err = piped(environment(real_endpoint.url, real_endpoint.token), "doctor")
    assert (status, err) == (0, "")
    assert checks(out) == CHECKS
    *lines, _, summary = out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert summary == "All is well."
    assert "1 order with keys order:*" in out
    assert re.search(r"[0-9.]+ MB used", out)
    assert tcp.keys() == [b"order:1"]
    assert real_endpoint.usage().commands <= 22


def test_in_a_terminal_it_says_the_same(few: LocalEndpoint) -> None:
    with Terminal(environment(few.url), "doctor") as terminal:
        assert terminal.end() == 0
    assert checks(re.sub(r"\x1b\[\d*m", "", terminal.text)) == CHECKS


def test_as_json(few: LocalEndpoint) -> None:
    report = json.loads(piped(environment(few.url), "doctor", "--json").out)
    assert report["ok"] is True
    assert [check["check"] for check in report["checks"]] == CHECKS
    wrong = piped(environment(few.url, PASSWORD), "doctor", "--json")
    last = json.loads(wrong.out)["checks"][-1]
    assert wrong.status == 1
    assert json.loads(wrong.out)["ok"] is False
    assert (last["check"], last["state"]) == ("token", "wrong")
    assert last["found"].startswith("WRONGPASS")
    assert "copy it from" in last["advice"]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, f"{URL} is not set, {URL_TOKEN} is not set"),
        ({URL: ELSEWHERE}, f"{URL} is set, {URL_TOKEN} is not set"),
        ({URL_TOKEN: TOKEN}, f"{URL} is not set, {URL_TOKEN} is set"),
        ({URL: ELSEWHERE, URL_TOKEN: " "}, f"{URL} is set, {URL_TOKEN} is blank"),
        ({URL: "", URL_TOKEN: ""}, f"{URL} is blank, {URL_TOKEN} is blank"),
        ({URL: '""', URL_TOKEN: TOKEN}, f"{URL} is blank, {URL_TOKEN} is set"),
        ({KV: ELSEWHERE}, f"{KV} is set, {KV_TOKEN} is not set"),
        (
            {URL: ELSEWHERE, KV_TOKEN: TOKEN},
            f"{URL} is set, {URL_TOKEN} is not set, {KV} is not set, {KV_TOKEN} is set",
        ),
    ],
)
def test_variables_that_are_not_set(
    few: LocalEndpoint,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    found: str,
) -> None:
    monkeypatch.delenv(URL)
    monkeypatch.delenv(URL_TOKEN)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    doctor.finds("variables", found, r"copy it from your database's page on console\.upstash\.com")


@pytest.mark.parametrize("around", ["'{}'", '"{}"', " {}", "{}\n", "' {} '"])
def test_quotes_and_white_space_are_a_warning(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    monkeypatch.setenv(URL, around.format(few.url))
    doctor.warns("variables", f"{URL} has quotes or white space around it", "remove them")
    monkeypatch.setenv(URL, few.url)
    monkeypatch.setenv(URL_TOKEN, around.format(few.token))
    doctor.warns("variables", f"{URL_TOKEN} has quotes or white space", "remove them")


def test_vercels_names_will_do(
    few: LocalEndpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL)
    monkeypatch.setenv(KV, few.url)
    monkeypatch.setenv(KV_TOKEN, few.token)
    status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert f"{KV} and {KV_TOKEN} are set" in out
    assert f"{URL_TOKEN} too: not used" in out


def test_a_second_pair_is_a_warning(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KV, ELSEWHERE)
    monkeypatch.setenv(KV_TOKEN, "another")
    doctor.warns("variables", f"{KV} and {KV_TOKEN} too: not used", f"{URL} and {URL_TOKEN} count")


@pytest.mark.parametrize(
    ("url", "found", "advice"),
    [
        (f"rediss://default:{PASSWORD}@sunny.upstash.io:6379", "Redis over TCP", "copy it from"),
        (f"https://default:{PASSWORD}@sunny.upstash.io", "user or password", "copy it from"),
        ("sunny-fox-12345.upstash.io", "not a URL that begins with https://", "copy it from"),
        (PASSWORD, "not a URL that begins with https://", "copy it from"),
        ("https://sunny.upstash.io:tls", "an invalid host or port", "copy it from"),
        ("https://sunny.upstash.io:0", "invalid host or port", "copy it from"),
        (f"{ELSEWHERE}?_token={PASSWORD}", "has a query or fragment", "copy it from"),
        (f"https://console.upstash.com/redis/{PASSWORD}", "that of the console", "copy it from"),
        ("http://sunny-fox-12345.upstash.io", "token in clear", "use https://"),
    ],
)
def test_invalid_urls(
    few: LocalEndpoint,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    found: str,
    advice: str,
) -> None:
    monkeypatch.setenv(URL, url)
    doctor.finds("URL", found, advice)


@pytest.mark.parametrize("token", ["two words", "Zoë", "a\nb"])
def test_tokens_that_no_header_can_hold(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(URL_TOKEN, token)
    doctor.finds(
        "URL", f"{URL_TOKEN} contains characters that a header cannot carry", "copy it from"
    )


def test_a_setting_that_cannot_be_used_is_a_warning(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TTL", "a week")
    doctor.warns(
        "settings", "UPSTASH_STATE_TTL is not a whole number", "until then, 604800 is used"
    )


def test_a_host_that_nobody_knows(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(URL, ELSEWHERE)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        doctor.finds("endpoint", "Name or service not known", "host for slips")


def test_a_name_server_that_does_not_answer(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = threading.Event()

    def silent(host: str, *args: Any, flags: int = 0, **options: Any) -> Any:
        if not flags:
            looked_up.wait(SECONDS)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.1")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", silent)
        try:
            doctor.finds("endpoint", "within the time budget", "UPSTASH_STATE_TIMEOUT")
        finally:
            looked_up.set()


def test_a_port_on_which_nobody_listens(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv(URL, f"http://127.0.0.1:{port}")
    doctor.finds("endpoint", "Connection refused", "host and port .if it is `upstash-state serve`")


def test_a_host_that_swallows_connections(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*args: object) -> None:
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", swallow)
        doctor.finds("endpoint", "no answer of the endpoint within", "a firewall swallows it")


@pytest.mark.parametrize(
    ("kind", "found", "advice"),
    [
        ("expired", "certificate has expired", "this machine's clock"),
        ("wrong_host", "IP address mismatch", "check the URL's host"),
        ("unknown_authority", "unable to get local issuer", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_certificates_that_prove_nothing(
    few: LocalEndpoint,
    doctor: Doctor,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    found: str,
    advice: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with LocalEndpoint(token=TOKEN, tls=getattr(certificates, kind)) as endpoint:
        monkeypatch.setenv(URL, endpoint.url)
        doctor.finds("endpoint", found, advice)


def test_a_good_certificate(
    few: LocalEndpoint,
    capsys: pytest.CaptureFixture[str],
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with LocalEndpoint(token=TOKEN, tls=certificates.right) as endpoint:
        monkeypatch.setenv(URL, endpoint.url)
        status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert "ok       endpoint    answers\n" in out


def test_certificates_to_trust_that_are_not_there(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds(
        "endpoint", "the file that REQUESTS_CA_BUNDLE names cannot", "or unset REQUESTS_CA"
    )


def test_certificates_to_trust_that_are_none(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bundle.pem").write_text("no certificate\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("endpoint", "the CA bundle .*bundle.pem cannot be used", "REQUESTS_CA_BUNDLE")


def test_https_to_a_port_that_speaks_http(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("endpoint", "TLS: ", "check the URL, https:// and port included")


def test_http_to_a_port_that_speaks_https(
    few: LocalEndpoint,
    doctor: Doctor,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalEndpoint(token=TOKEN, tls=certificates.right) as endpoint:
        monkeypatch.setenv(URL, endpoint.url.replace("https:", "http:"))
        doctor.finds("endpoint", "connection to the endpoint failed", "https:// and port included")


def test_a_server_that_never_shakes_hands(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(URL, f"https://127.0.0.1:{silent.getsockname()[1]}")
        doctor.finds("endpoint", "no answer of the endpoint within", "a firewall swallows it")


def test_a_wrong_token_or_the_password_for_tcp(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_TOKEN, PASSWORD)
    doctor.finds("token", "WRONGPASS", "not its password for TCP: copy it from")


def test_the_read_only_token(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_TOKEN, few.read_only_token)
    doctor.finds("writing", "NOPERM", "this is the read-only token: copy it from")


def refusing(name: str, text: str, status: int = 400) -> Any:
    answer = status, json.dumps({"error": text})
    return lambda body: answer if name in ("", *names(body)) else None


def answering(name: str, result: object) -> Any:
    answer = 200, json.dumps({"result": result})
    return lambda body: answer if names(body) == [name] else None


def test_a_token_that_may_write_but_not_scan(gate: Gate, doctor: Doctor) -> None:
    gate.answer = refusing("SCAN", "NOPERM this user has no permissions to run the 'scan' command")
    doctor.finds("SCAN", "NOPERM", "this is the read-only token")


@pytest.mark.parametrize("limit", ["requests limit", "daily request limit"])
def test_a_quota_that_is_used_up(gate: Gate, doctor: Doctor, limit: str) -> None:
    gate.answer = refusing("", f"ERR max {limit} exceeded. Limit: 500000, Usage: 500000")
    doctor.finds("token", f"max {limit} exceeded", "wait for the new day or month")


def test_a_full_database(gate: Gate, doctor: Doctor) -> None:
    gate.answer = refusing("SET", "ERR DB capacity quota exceeded. Limit: 268435456")
    doctor.finds("probe order", "DB capacity quota exceeded", "delete what is not needed")


@pytest.mark.parametrize("status", [200, 403, 404])
def test_something_else_that_answers(gate: Gate, doctor: Doctor, status: int) -> None:
    gate.answer = lambda body: (status, "<html><title>Please log in</title></html>")
    doctor.finds("endpoint", "not an answer of", "a proxy's or a login page")


def test_the_path_of_the_url_is_not_shown(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{gate.url}/{PASSWORD}")
    gate.answer = lambda body: (503, "")
    doctor.finds("endpoint", "HTTP status 503", "try again later")


def test_the_probe_is_none_of_the_apps_orders(gate: Gate, doctor: Doctor) -> None:
    gate.answer = answering("TTL", -1)
    doctor.finds("probe order", "expires", "Redis")
    touched = [body[1] for body in gate.seen if names(body) in (["SET"], ["GET"], ["DEL"])]
    assert touched
    assert all(key.startswith("upstash-state-doctor:") for key in touched)


def test_an_endpoint_that_is_down(gate: Gate, doctor: Doctor) -> None:
    gate.answer = lambda body: (503, "")
    doctor.finds("endpoint", "HTTP status 503", "try again later")


def test_an_endpoint_that_does_not_answer_in_time(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.holds = lambda body: True
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    doctor.finds("endpoint", "no answer of the endpoint within", "UPSTASH_STATE_TIMEOUT")


def test_the_servers_own_words_do_not_show_the_token(gate: Gate, doctor: Doctor) -> None:
    gate.answer = refusing("", f"ERR what is {TOKEN}?")
    doctor.finds("token", r"ERR what is \*\*\*", "troubleshooting")


@pytest.mark.parametrize(
    ("info", "found", "advice"),
    [
        ("maxmemory_policy:optimistic-volatile", r"eviction is on \(optimistic-volatile\)", "off"),
        ("used_memory:90\r\nmaxmemory:100", "0.0 MB used of 0.0 MB", "nearly full"),
        ("used_memory:10\r\nevicted_keys:1234", "1,234 keys were evicted", "switch eviction off"),
    ],
)
def test_what_may_cost_orders_is_a_warning(
    gate: Gate, doctor: Doctor, info: str, found: str, advice: str
) -> None:
    gate.answer = answering("INFO", f"# Memory\r\n{info}\r\n")
    doctor.warns("memory", found, advice)


@pytest.mark.parametrize(
    "answer",
    [
        answering("INFO", "# Memory\r\n"),
        answering("INFO", None),
        answering("INFO", "used_memory:much\r\nmaxmemory:-1"),
        refusing("INFO", "ERR Command is not available: 'INFO'"),
    ],
)
def test_a_server_need_not_tell(
    gate: Gate, capsys: pytest.CaptureFixture[str], answer: Any
) -> None:
    gate.answer = answer
    status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert "memory      the server does not tell" in out


def test_a_slow_way_is_a_warning(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = itertools.accumulate(itertools.cycle([0, 0.3]))
    monkeypatch.setattr(database, "perf_counter", lambda: next(took))
    doctor.warns("round trip", r"300 ms, the median of 5 \(300 to 300\)", "region near by")


@pytest.mark.parametrize(
    ("command", "result", "found"),
    [
        ("TTL", -1, "it expires in 1 to 60 s: False"),
        ("TTL", 600, "it expires in 1 to 60 s: False"),
        ("GET", None, "it reads: None"),
        ("GET", '{"name": "probe", "created_at": "2025-12-01T11:00:28+01:00"}', "it reads: {"),
    ],
)
def test_a_server_that_does_not_work_as_redis_does(
    gate: Gate, few: LocalEndpoint, doctor: Doctor, command: str, result: object, found: str
) -> None:
    gate.answer = answering(command, result)
    doctor.finds("probe order", re.escape(found), "does not work as Redis does")
    with UpstashRedis(few.url, few.token) as client:
        assert client.keys() == []


def test_a_server_that_does_not_delete(gate: Gate, doctor: Doctor) -> None:
    gate.answer = answering("DEL", 1)
    doctor.finds("probe order", "after deletion it reads", "does not work as Redis does")


def test_ctrl_c_leaves_no_probe_behind(few: LocalEndpoint, gate: Gate) -> None:
    gate.holds = lambda body: names(body) == ["TTL"]
    with Terminal(environment(gate.url), "doctor") as terminal:
        assert gate.holding.wait(SECONDS)
        assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.text
    with UpstashRedis(few.url, few.token) as client:
        assert client.keys() == []


def test_a_proxy_is_examined_in_place_of_the_endpoint(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{port}")
    doctor.finds("endpoint", "connection to the proxy failed: Connection refused", "HTTPS_PROXY")


def test_a_proxy_that_does_not_speak_tls(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", few.url.replace("http:", "https:"))
    doctor.finds("endpoint", "connection to the proxy failed: TLS", "check HTTPS_PROXY")


def test_a_proxy_that_refuses(
    few: LocalEndpoint, gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", gate.url.replace("http://", f"http://me:{PASSWORD}@"))
    doctor.finds("endpoint", "the proxy answered with HTTP status 501", "HTTPS_PROXY, HTTP_PROXY")


def test_an_invalid_proxy_address(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:port")
    doctor.finds("endpoint", "", "check HTTPS_PROXY")


def test_a_proxy_for_socks_needs_pysocks(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{free_port()}")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "socks", None)
        doctor.finds(
            "endpoint", "SOCKS, and PySocks is missing", r"pip install 'requests\[socks\]'"
        )


def test_a_key_log_that_cannot_be_written_is_not_blamed_on_certificates(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("endpoint", "the file that SSLKEYLOGFILE names cannot", "unset SSLKEYLOGFILE")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"Bearer {TOKEN}", 'contains "Bearer "'),
        (f"{URL_TOKEN}={TOKEN}", "contains the name UPSTASH_REDIS_REST_TOKEN"),
        (f"export {URL_TOKEN}={TOKEN}", "contains the name UPSTASH_REDIS_REST_TOKEN"),
    ],
)
def test_what_is_pasted_with_a_token(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, value: str, found: str
) -> None:
    monkeypatch.setenv(URL_TOKEN, value)
    doctor.finds("URL", f"{URL_TOKEN} {found}", "alone")


def test_settings_have_a_heading_of_their_own(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_PREFIX", "shop:")
    monkeypatch.setenv("UPSTASH_STATE_TIMOUT", "3")
    monkeypatch.setenv("UPSTASH_STATE_PASSWORD", PASSWORD)
    doctor.warns("settings", "UPSTASH_STATE_TIMOUT is not a setting", "mean UPSTASH_STATE_TIMEOUT")
    doctor.warns("settings", "UPSTASH_STATE_PASSWORD is not a setting", "there are UPSTASH_STATE_")


def test_redis_own_port_and_a_path_are_named(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{few.url}/{PASSWORD}")
    status, out, _ = doctor.run()
    assert status == 1
    assert "warning  URL         the URL has a path after the host\n" in out
    assert PASSWORD not in out
    monkeypatch.setenv(URL, "http://127.0.0.1:6379")
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    _, out, _ = doctor.run()
    assert "warning  URL         port 6379 is usually Redis's own" in out


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            f"# comment\n{URL}={ELSEWHERE}\nexport {URL_TOKEN}='{PASSWORD}'\n",
            "sets them, but nothing",
        ),
        (
            f"{KV}={ELSEWHERE}\r\n{KV_TOKEN}={PASSWORD}\r\n",
            "sets them, but nothing loads it: set -a",
        ),
        (EXAMPLE, "replace the placeholders in .env here .*; then load it"),
        (f"{URL}={ELSEWHERE}\n", "copy it from"),
        ("\0\xff", "copy it from"),
    ],
)
def test_a_file_that_nothing_loads_is_pointed_at(
    few: LocalEndpoint,
    doctor: Doctor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str,
    advice: str,
) -> None:
    (tmp_path / ".env").write_text(text)
    monkeypatch.delenv(URL)
    monkeypatch.delenv(URL_TOKEN)
    doctor.finds("variables", f"{URL} is not set, {URL_TOKEN} is not set", advice)


def test_the_way_to_load_a_file_works(few: LocalEndpoint, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{URL}={few.url}\n{URL_TOKEN}='{TOKEN}'\n")
    env = environment("", "")
    del env[URL], env[URL_TOKEN]
    doctor = f"{sys.executable} -m upstash_state doctor"
    before = subprocess.run(
        ["sh", "-c", doctor], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=SECONDS
    )
    assert before.returncode == 1
    (advice,) = re.findall(r"nothing loads it: (.*)", before.stdout)
    after = subprocess.run(
        ["sh", "-c", f"{advice}; {doctor}"], cwd=tmp_path, env=env, timeout=SECONDS
    )
    assert after.returncode == 0


def test_placeholders_left_in_place_are_named(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = dict(re.findall(r"^(UPSTASH_REDIS_REST_\w+)=(.*)$", EXAMPLE, re.M))
    assert len(values) == 2
    monkeypatch.setenv(URL_TOKEN, values[URL_TOKEN])
    doctor.finds("variables", f"{URL_TOKEN} is the placeholder of .env.example", "copy it from")
    monkeypatch.setenv(URL, values[URL])
    doctor.finds("variables", f"{URL} is the placeholder of .env.example", "copy it from")


def test_a_name_that_is_nearly_right_is_named(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL)
    monkeypatch.setenv("UPSTASH_REDIS_URL", f"rediss://default:{PASSWORD}@sunny.upstash.io:6379")
    doctor.finds("variables", f"{URL} is not set", f"UPSTASH_REDIS_URL is set; did you mean {URL}?")


@pytest.mark.parametrize("status", [404, 200])
def test_a_server_without_transactions_will_do(gate: Gate, doctor: Doctor, status: int) -> None:
    gate.answer_path = lambda path: (status, "nothing here") if path == "/multi-exec" else None
    doctor.warns("transaction", "does not work: ", "use pipeline.transaction=False")


def test_a_server_without_pipelines_will_not(gate: Gate, doctor: Doctor) -> None:
    gate.answer_path = lambda path: (404, "nothing here") if path == "/pipeline" else None
    doctor.finds("pipeline", "HTTP status 404", "something else answers")


def test_with_background_mode_a_slow_way_is_fine(
    few: LocalEndpoint, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = itertools.accumulate(itertools.cycle([0, 0.3]))
    monkeypatch.setattr(database, "perf_counter", lambda: next(took))
    monkeypatch.setenv("UPSTASH_STATE_BACKGROUND", "1")
    assert "ok       round trip  300 ms" in tool("doctor").out


def test_in_a_terminal_states_have_colours_and_advice_wraps_under_itself(
    few: LocalEndpoint, tmp_path: Path
) -> None:
    env = environment(few.url, PASSWORD, COLUMNS="80", UPSTASH_STATE_TTL="a week")
    with Terminal(env, "doctor") as terminal:
        assert terminal.end() == 1
    assert "\x1b[32mok      \x1b[0m variables" in terminal.text
    assert "\x1b[33mwarning \x1b[0m settings" in terminal.text
    assert "\x1b[31mwrong   \x1b[0m token" in terminal.text
    lines = re.sub(r"\x1b\[\d*m", "", terminal.text).splitlines()
    assert max(map(len, lines)) <= 80
    arrow = next(i for i, line in enumerate(lines) if "-> the token must be" in line)
    assert lines[arrow].startswith(" " * 21 + "-> the token")
    assert re.match(r" {24}\S", lines[arrow + 1])


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_switched_off(few: LocalEndpoint, plain: dict[str, str]) -> None:
    with Terminal(environment(few.url, **plain), "doctor") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.text


def test_a_probe_that_could_not_be_saved_is_not_kept_for_later(gate: Gate) -> None:
    refuse = refusing("", "ERR DB capacity quota exceeded. Limit: 268435456")
    gate.answer = lambda body: refuse(body) if ["SET"] in map(names, gate.seen) else None
    status, _, err = piped(environment(gate.url), "doctor")
    assert (status, err) == (1, "")
    saved = [names(body) for body in gate.seen].index(["SET"])
    # The probe is removed in any case. Nothing more comes, also not at exit.
    assert [names(body) for body in gate.seen[saved:]] == [["SET"], ["DEL"]]


def test_a_key_log_that_can_be_made_and_certificates_in_a_directory_are_not_blamed(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    monkeypatch.setenv(URL, f"https://127.0.0.1:{free_port()}")
    doctor.finds("endpoint", "Connection refused", "host and port")
