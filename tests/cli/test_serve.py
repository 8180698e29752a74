"""`serve`, the embedded endpoint at a terminal."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.support.cli import Terminal, Tool, environment, piped
from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint

DEADLINE = 30.0


def test_it_says_what_to_export_and_ends_with_ctrl_c() -> None:
    env = environment("", "")
    with Terminal(env, "serve", "--port", "0", "--token", "abc") as terminal:
        shown = terminal.expect("Ctrl-C ends it.")
        url = shown.partition("export UPSTASH_REDIS_REST_URL=")[2].splitlines()[0]
        assert piped(environment(url, "abc"), "count").out == "0\n"
        assert terminal.interrupt() == 0
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("demo",)])
def test_words_are_not_cut_at_the_end_of_the_terminals_line(command: tuple[str, ...]) -> None:
    with Terminal(environment("", "", COLUMNS="80"), *command) as terminal:
        terminal.expect("Ctrl-C ends it|all equal")
    lines = terminal.text.splitlines()
    assert "(in memory: gone when this ends)" in " ".join(map(str.strip, lines))
    assert max(map(len, lines)) <= 80


def test_a_port_in_use_is_named_in_one_line(tool: Tool, endpoint: LocalEndpoint) -> None:
    port = endpoint.url.rpartition(":")[2]
    status, out, text = tool("serve", "--port", port)
    assert (status, out, text.count("\n")) == (1, "", 1)
    assert text.startswith(f"upstash-state: cannot start on 127.0.0.1, port {port}: ")
    assert "Address already in use (--port 0 takes a free one)" in text


@pytest.mark.parametrize("module", ["fakeredis", "redis"])
@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("demo",)])
def test_without_the_extra_it_says_what_to_install(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, module: str, command: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "upstash_state.local.fake", raising=False)
    said = f"upstash-state: {module} is missing for the embedded endpoint: "
    assert tool(*command) == (1, "", f"{said}pip install 'upstash-state[local]'\n")


@pytest.mark.parametrize(
    "argv",
    [
        ("--token", "line\nbreak"),
        ("--redis-url", "http://x"),
        ("--redis-url", "redis://[::1"),
        ("--read-only-token", ""),
        ("--errors", "120%"),
        ("--rps", "0"),
    ],
)
def test_an_invalid_option_is_named_in_one_line(tool: Tool, argv: tuple[str, ...]) -> None:
    status, out, text = tool("serve", "--port", "0", *argv)
    assert (status, out) == (1 if argv[0] == "--redis-url" else 2, "")
    assert text.startswith("upstash-state: ")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
)
def test_it_warns_where_others_can_reach_it(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, host: str, warned: bool
) -> None:
    def interrupt(_: LocalEndpoint) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalEndpoint, "serve_forever", interrupt)
    tokens = ("--token", "the-token", "--read-only-token", "the-other")
    status, text, _ = tool("serve", "--port", "0", "--host", host, *tokens)
    assert status == 0
    assert "export UPSTASH_REDIS_REST_TOKEN=the-token\n" in text
    assert "The read-only token: the-other\n" in text
    assert ("Warning" in text) is warned


def test_its_url_can_be_used_on_this_machine(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(endpoint: LocalEndpoint) -> None:
        with UpstashRedis(endpoint.url, endpoint.token) as client:
            assert client.ping()

    monkeypatch.setattr(LocalEndpoint, "serve_forever", use)
    for host in ("0.0.0.0", ""):
        status, text, _ = tool("serve", "--port", "0", "--host", host)
        assert status == 0
        assert re.search(r"^export UPSTASH_REDIS_REST_URL=http://127\.0\.0\.1:\d+$", text, re.M)
        assert "Warning: others can reach this host" in text


def test_it_continues_when_the_reader_closes_the_pipe() -> None:
    command = [sys.executable, "-m", "upstash_state", "serve", "--port", "0", "--verbose"]
    with subprocess.Popen(
        [*command, "--token", "abc"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = next(line for line in lines if "_URL=" in line).strip().partition("=")[2]
            next(line for line in lines if "Ctrl-C" in line)
            process.stdout.close()
            with UpstashRedis(url, "abc") as client:
                assert client.ping()
                assert client.ping()
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("verbose", [True, False])
def test_requests_are_shown_when_asked(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    def use(endpoint: LocalEndpoint) -> None:
        for path, body in [
            ("/", ["SET", "order:ü\x1b[2J", "a secret"]),
            ("/pipeline", [["GET", f"k{number}"] for number in range(5)]),
            ("/", ["INCR", "order:ü\x1b[2J"]),
            (f"/get/k?_token={endpoint.token}", None),
        ]:
            headers = {"Authorization": f"Bearer {endpoint.token}"}
            requests.post(endpoint.url + path, json=body, headers=headers, timeout=DEADLINE)
        requests.post(endpoint.url, json=["PING"], timeout=DEADLINE)

    monkeypatch.setattr(LocalEndpoint, "serve_forever", use)
    status, text, _ = tool("serve", "--port", "0", "--token", "hush", *["--verbose"] * verbose)
    assert status == 0
    lines = text.partition("Ctrl-C ends it.\n")[2].splitlines()
    shown = [re.sub(r"\d\d:\d\d:\d\d  (.*) [\d.]+ ms: ", r"\1 - ", line) for line in lines]
    not_an_integer = '{"error":"ERR value is not an integer or out of range"}'
    expected = [
        r"POST 200, - SET order:ü\x1b[2J ",
        "POST 200, - GET k0, GET k1, GET k2 and 2 more ",
        rf"POST 400, - INCR order:ü\x1b[2J {not_an_integer}",
        "POST 200, - get k ",
        'POST 401, -  {"error":"WRONGPASS invalid or missing auth token"}',
    ]
    assert shown == (expected if verbose else [])
    assert "hush" not in "".join(lines)
    assert logging.getLogger("upstash_state.local").level == logging.NOTSET


def test_it_can_misbehave(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(endpoint: LocalEndpoint) -> None:
        answers.append(requests.post(endpoint.url, json=["PING"], timeout=DEADLINE))

    answers: list[requests.Response] = []
    monkeypatch.setattr(LocalEndpoint, "serve_forever", use)
    tool(
        "serve", "--port", "0", "--errors", "100%", "--latency", "1ms", "--quota", "5", "--rps", "9"
    )
    assert answers[0].status_code == 503


def test_serve_forever_returns_when_closed() -> None:
    endpoint = LocalEndpoint()
    with ThreadPoolExecutor(1) as pool:
        endpoint.start()
        serving = pool.submit(endpoint.serve_forever)
        endpoint.close()
        serving.result(timeout=DEADLINE)


def test_every_wait_has_an_end_since_windows_interrupts_no_other(
    endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    def wait(_: threading.Event, timeout: float | None = None) -> bool:
        waits.append(timeout)
        return len(waits) == 3

    with monkeypatch.context() as patched:
        patched.setattr(threading.Event, "wait", wait)
        endpoint.serve_forever()
    assert len(waits) == 3
    assert None not in waits
