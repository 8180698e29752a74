"""The doctor against every wrong set-up that is known: what it finds, what it says to do."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.cli import SECONDS, TOKEN, Gate, Terminal, Tool, environment, names, piped, use
from tests.support.faults import Certificates
from tests.support.servers import free_port
from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint
from upstash_state.tool import doctor_database

URL, URL_TOKEN = "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"
KV, KV_TOKEN = "KV_REST_API_URL", "KV_REST_API_TOKEN"
ELSEWHERE = "https://sunny-fox-12345.upstash.io"
PASSWORD = "hunter2-hunter2"
CHECKS = [
    "variables",
    "URL",
    "name",
    "connection",
    "TLS",
    "token",
    "writing",
    "SCAN",
    "round trip",
    "memory",
    "orders",
    "probe order",
]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEndpoint]:
    """An empty endpoint in memory, which the environment names."""
    with LocalEndpoint(token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        yield endpoint


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

    def finds(self, check: str, found: str, advice: str) -> None:
        """It ends at a check, with a finding and an advice (regular expressions)."""
        status, out, err = self._tool("doctor")
        *before, line, arrow = out.splitlines()
        assert (status, err) == (1, "")
        assert re.fullmatch(rf"wrong    {check:11} .*{found}.*", line), out
        assert re.fullmatch(rf" {{20}} -> .*{advice}.*", arrow), out
        assert not any(line.startswith("wrong") for line in before)
        checked = [line[9:20].strip() for line in before if not line.startswith(" ")]
        assert list(dict.fromkeys(checked)) == CHECKS[: CHECKS.index(check)]
        assert PASSWORD not in out

    def warns(self, check: str, found: str, advice: str) -> None:
        """Nothing is wrong, but there is a warning."""
        status, out, err = self._tool("doctor")
        assert (status, err) == (0, ""), out
        assert re.search(rf"^warning  {check:11} .*{found}.*\n {{20}} -> .*{advice}", out, re.M), (
            out
        )
        assert PASSWORD not in out


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(Tool(capsys))


def checks(out: str) -> list[str]:
    return [line[9:20].strip() for line in out.splitlines()]


def test_all_is_well(real_endpoint: LocalEndpoint, tcp: redis.Redis) -> None:
    tcp.set("order:1", "{}", ex=100)
    status, out, err = piped(environment(real_endpoint.url, real_endpoint.token), "doctor")
    assert (status, err) == (0, "")
    assert checks(out) == CHECKS
    assert all(line.startswith("ok ") for line in out.splitlines())
    assert "1 order with keys order:*" in out
    assert re.search(r"[0-9.]+ MB used", out)
    assert tcp.keys() == [b"order:1"]
    assert real_endpoint.usage().commands <= 16


def test_in_a_terminal_it_says_the_same(few: LocalEndpoint) -> None:
    with Terminal(environment(few.url), "doctor") as terminal:
        assert terminal.end() == 0
    assert checks(terminal.text) == CHECKS


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
        ({}, f"neither {URL} and {URL_TOKEN} nor {KV} and {KV_TOKEN}"),
        ({URL: ELSEWHERE}, f"{URL} is set, {URL_TOKEN} is not set"),
        ({URL_TOKEN: TOKEN}, f"{URL_TOKEN} is set, {URL} is not set"),
        ({URL: ELSEWHERE, URL_TOKEN: " "}, f"{URL} is set, {URL_TOKEN} is blank"),
        ({URL: "", URL_TOKEN: ""}, f"{URL} is blank, {URL_TOKEN} is blank"),
        ({URL: '""', URL_TOKEN: TOKEN}, f"{URL_TOKEN} is set, {URL} is blank"),
        ({KV: ELSEWHERE}, f"{KV} is set, {KV_TOKEN} is not set"),
        (
            {URL: ELSEWHERE, KV_TOKEN: TOKEN},
            f"{URL} is set, {KV_TOKEN} is set, {URL_TOKEN} is not set, {KV} is not set",
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
    doctor.warns("variables", f"{URL} has quotes or white space around it", "take them away")
    monkeypatch.setenv(URL, few.url)
    monkeypatch.setenv(URL_TOKEN, around.format(few.token))
    doctor.warns("variables", f"{URL_TOKEN} has quotes or white space", "take them away")


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
        ("https://sunny.upstash.io:0", "invalid character or port", "copy it from"),
        (f"{ELSEWHERE}?_token={PASSWORD}", "has a query or fragment", "copy it from"),
        (f"https://console.upstash.com/redis/{PASSWORD}", "that of the console", "copy it from"),
        ("http://sunny-fox-12345.upstash.io", "token in clear", "use https://"),
    ],
)
def test_urls_that_are_none(
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
    doctor.warns("URL", "UPSTASH_STATE_TTL is not a whole number", "until then, 604800 is used")


def test_a_host_that_nobody_knows(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(URL, ELSEWHERE)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        doctor.finds(
            "name", "the endpoint's host sunny-fox-12345.upstash.io is not known", "for slips"
        )


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
            doctor.finds("name", r"was not looked up in 0\.1 s", "name server")
        finally:
            looked_up.set()


def test_a_port_on_which_nobody_listens(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv(URL, f"http://127.0.0.1:{port}")
    doctor.finds("connection", f"nobody listens on port {port}", "check the port in the URL")


def test_a_host_that_swallows_connections(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*args: object) -> None:
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", swallow)
        doctor.finds("connection", "no connection to 127.0.0.1, port .*, in 30 s", "firewall")


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
        doctor.finds("TLS", found, advice)


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
    assert re.search(r"^ok       TLS         TLSv1\.3, certificate good until \w+ ", out, re.M)


def test_certificates_to_trust_that_are_not_there(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("TLS", "certificates to trust cannot be read", "unset REQUESTS_CA_BUNDLE")


def test_https_to_a_port_that_speaks_http(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("TLS", "no TLS on port", "check the URL's port")


def test_http_to_a_port_that_speaks_https(
    few: LocalEndpoint,
    doctor: Doctor,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalEndpoint(token=TOKEN, tls=certificates.right) as endpoint:
        monkeypatch.setenv(URL, endpoint.url.replace("https:", "http:"))
        doctor.finds("token", "connection to the endpoint failed", "https:// or http:// included")


def test_a_server_that_never_shakes_hands(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(URL, f"https://127.0.0.1:{silent.getsockname()[1]}")
        doctor.finds("TLS", r"no TLS on port [0-9]+ in 0\.2 s", "something in between")


def test_a_wrong_token_or_the_password_for_tcp(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_TOKEN, PASSWORD)
    doctor.finds("token", "WRONGPASS", "is not its password: copy it from")


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


@pytest.mark.parametrize("of_what", ["requests limit", "daily request limit"])
def test_a_quota_that_is_used_up(gate: Gate, doctor: Doctor, of_what: str) -> None:
    gate.answer = refusing("", f"ERR max {of_what} exceeded. Limit: 500000, Usage: 500000")
    doctor.finds("token", f"max {of_what} exceeded", "wait for the new day or month")


def test_a_full_database(gate: Gate, doctor: Doctor) -> None:
    gate.answer = refusing("SET", "ERR DB capacity quota exceeded. Limit: 268435456")
    doctor.finds("probe order", "DB capacity quota exceeded", "delete what is not needed")


@pytest.mark.parametrize("status", [200, 403, 404])
def test_something_else_that_answers(gate: Gate, doctor: Doctor, status: int) -> None:
    gate.answer = lambda body: (status, "<html><title>Please log in</title></html>")
    doctor.finds("token", "not an answer of", "a proxy's or a login page")


def test_the_path_of_the_url_is_not_shown(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{gate.url}/{PASSWORD}")
    gate.answer = lambda body: (503, "")
    doctor.finds("token", "HTTP status 503", "try again later")


def test_the_probe_is_none_of_the_apps_orders(gate: Gate, doctor: Doctor) -> None:
    gate.answer = answering("TTL", -1)
    doctor.finds("probe order", "expires", "Redis")
    touched = [body[1] for body in gate.seen if names(body) in (["SET"], ["GET"], ["DEL"])]
    assert touched
    assert all(key.startswith("upstash-state-doctor:") for key in touched)


def test_an_endpoint_that_is_down(gate: Gate, doctor: Doctor) -> None:
    gate.answer = lambda body: (503, "")
    doctor.finds("token", "HTTP status 503", "try again later")


def test_an_endpoint_that_does_not_answer_in_time(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.holds = lambda body: True
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    doctor.finds("token", "no answer of the endpoint within", "UPSTASH_STATE_TIMEOUT")


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
    monkeypatch.setattr(doctor_database, "perf_counter", lambda: next(took))
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
        terminal.type("\x03")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    with UpstashRedis(few.url, few.token) as client:
        assert client.keys() == []


def test_a_proxy_is_examined_in_place_of_the_endpoint(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{port}")
    doctor.finds("connection", f"nobody listens on port {port}", "HTTPS_PROXY")


def test_a_proxy_that_refuses(
    few: LocalEndpoint, gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", gate.url.replace("http://", f"http://me:{PASSWORD}@"))
    doctor.finds(
        "token", "the proxy answered with HTTP status 501", "and the proxy if there is one"
    )


def test_a_proxys_address_that_is_none(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:port")
    doctor.finds("name", "the proxy's address is none", "check HTTPS_PROXY")
