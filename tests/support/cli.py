"""The command line as a person uses it: a process of its own, in a pipe or in a terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest
import requests

from tests.support.environ import TIMEOUT, Environ
from tests.support.paths import ROOT
from upstash_state import UpstashRedis
from upstash_state.cli.main import main
from upstash_state.local import LocalEndpoint

TOKEN = "secret-token-of-the-tests"
SECONDS = 30.0
#: Seconds until a saved order expires.
TTL = 604_800

Environment = dict[str, str]


def environment(url: str, token: str = TOKEN, **more: str) -> Environment:
    """The environment of a process that uses a database, and nothing of this one's."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "UPSTASH_REDIS_REST_URL": url,
        "UPSTASH_REDIS_REST_TOKEN": token,
        "UPSTASH_STATE_TIMEOUT": f"{TIMEOUT:g}",
        **more,
    }


class Outcome(NamedTuple):
    """How a run ended."""

    status: int
    out: str
    err: str


def piped(env: Environment, *args: str, stdin: str | bytes = "") -> Outcome:
    """Run the tool with pipes on all sides."""
    done = subprocess.run(
        [sys.executable, "-m", "upstash_state", *args],
        env=env,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=SECONDS,
    )
    outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
    _has_no_secret(outcome.out + outcome.err, env)
    return outcome


class Tool:
    """The tool in this process, which takes a tenth of the time."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str, stdin: str | bytes = "") -> Outcome:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(given))))
                status = main(args)
        except SystemExit as ended:
            status = int(ended.code or 0)
        shown = self._capsys.readouterr()
        _has_no_secret(shown.out + shown.err, os.environ)
        return Outcome(status, shown.out, shown.err)


def use(monkeypatch: pytest.MonkeyPatch, url: str, token: str = TOKEN, **more: str) -> None:
    """Name a database in this process's environment."""
    Environ(monkeypatch).use(url, token, **more)


def put(endpoint: LocalEndpoint, key: str, text: str, ttl: int | None = TTL) -> None:
    """Set a key, as somebody else might."""
    with UpstashRedis(endpoint.url, endpoint.token) as client:
        client.set(key, text, ex=ttl)


class Terminal:
    """The tool, or another command, in a terminal, of 120 columns unless COLUMNS is set."""

    def __init__(
        self,
        env: Environment,
        *args: str,
        command: Sequence[str] = (sys.executable, "-m", "upstash_state"),
        directory: Path | None = None,
    ) -> None:
        self._env = env
        #: What it has shown so far, with the ends of lines that Python has.
        self.text = ""
        self._bytes = b""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*command, *args],
            cwd=directory,
            env={"COLUMNS": "120", "TERM": "xterm", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # A session of its own has the terminal for its own, and gets its Ctrl-C.
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)

    @property
    def shown(self) -> str:
        """The text without lines of progress, which were shown for a moment."""
        return re.sub(r"\x1b\[\?25l.*?\x1b\[\?25h\r\x1b\[1A\x1b\[2K", "", self.text, flags=re.S)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def expect(self, pattern: str) -> str:
        """Wait until the terminal shows something."""
        deadline = monotonic() + SECONDS
        while not re.search(pattern, self.text):
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} is not in {self.text!r}")
        return self.text

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def interrupt(self, again: float = SECONDS / 3) -> int:
        """Type Ctrl-C, and return the exit status.

        It is typed again after some seconds, because one that comes just before the tool starts to
        read a line has no effect.
        """
        try:
            self.type("\x03")
            return self.end(again)
        except AssertionError:
            self.type("\x03")
            return self.end()

    def end(self, seconds: float = SECONDS) -> int:
        """Wait until the tool has ended, and return its exit status."""
        deadline = monotonic() + seconds
        while self._read(deadline):
            pass
        status = self._process.wait(max(deadline - monotonic(), 0.1))
        _has_no_secret(self.text, self._env)
        return status

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(deadline - monotonic(), 0))
        if not ready:
            raise AssertionError(f"nothing more came after {self.text!r}")
        try:
            piece = os.read(self._master, 65536)
        except OSError:
            # Linux raises it after the last writer has closed the terminal.
            return False
        self._bytes += piece
        self.text = self._bytes.decode(errors="replace").replace("\r\n", "\n")
        return bool(piece)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # If the tests run in the background, Ctrl-C may be ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _has_no_secret(shown: str, env: Mapping[str, str]) -> None:
    secrets = [value.strip() for name, value in env.items() if name.endswith("_TOKEN")]
    assert not any(secret and secret in shown for secret in secrets), shown


class Gate:
    """An endpoint in front of another, that can hold a request or answer it itself.

    Attributes:
        url: Where it listens.
        alter: May change each request's body, as parsed JSON, before it is handed on.
        answer: Asked for each request, with its body as parsed JSON: a status and a body to answer
            with, or None to hand the request on.
        answer_path: Likewise asked, with its path.
        holds: Asked for each request whether to hold it until the gate is closed.
        holding: Set once a request is being held.
        seen: The bodies of all requests.
    """

    def __init__(self, behind: str) -> None:
        self.alter: Callable[[Any], None] = lambda body: None
        self.answer: Callable[[Any], tuple[int, str] | None] = lambda body: None
        self.answer_path: Callable[[str], tuple[int, str] | None] = lambda path: None
        self.holds: Callable[[Any], bool] = lambda body: False
        self.holding = threading.Event()
        self.seen: list[Any] = []
        self._closed = threading.Event()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body are two packets; the second would wait for 40 ms.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = gate._answer(behind, self.path, data, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:
                # A client that was held may have closed its connection.
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(
        self, behind: str, path: str, data: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        body = json.loads(data)
        self.seen.append(body)
        if self.holds(body):
            self.holding.set()
            self._closed.wait(SECONDS)
            return 503, b""
        answer = self.answer(body) or self.answer_path(path)
        if answer is not None:
            return answer[0], answer[1].encode()
        self.alter(body)
        headers = {name: headers[name] for name in ("Authorization", "Content-Type")}
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(behind + path, json=body, headers=headers, timeout=SECONDS)
            return response.status_code, response.content

    @contextmanager
    def open(self) -> Iterator[Gate]:
        """Listen while the block runs."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._closed.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def names(body: Any) -> list[str]:
    """The names of the commands in a request's body."""
    return [command[0] for command in (body if isinstance(body[0], list) else [body])]
