"""Chromium, driven over WebDriver (W3C), which is JSON over HTTP on loopback."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import requests

from tests.support.cli import SECONDS
from tests.support.servers import port_of, reserve_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WITHOUT_CHROMIUM = "" if CHROMIUM and DRIVER else "chromium and chromedriver are not installed"
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name is looked up, and no host but loopback is reached.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--window-size=1000,700",
)


class Browser:
    """One window of Chromium."""

    def __init__(self, url: str, session: requests.Session) -> None:
        self._url = url
        self._session = session

    def open(self, url: str) -> None:
        """Load a page."""
        self.send("POST", "/url", {"url": url})

    def run(self, script: str, *args: object) -> Any:
        """Run JavaScript in the page, as the body of a function, and return its result."""
        return self.send("POST", "/execute/sync", {"script": script, "args": list(args)})

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = monotonic() + SECONDS
        while not self.run(f"return Boolean({condition})"):
            assert monotonic() < deadline, self.run("return document.body.innerText")

    def picture(self) -> bytes:
        """Return the window as a PNG."""
        return base64.b64decode(self.send("GET", "/screenshot"))

    def send(self, method: str, path: str, body: object = None) -> Any:
        """Send one command of WebDriver."""
        answer = self._session.request(method, self._url + path, json=body, timeout=SECONDS)
        assert answer.ok, answer.text
        return answer.json()["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A window of a browser with a new profile."""
    assert DRIVER
    with (
        reserve_port() as reserved,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        requests.Session() as session,
    ):
        session.trust_env = False
        port = port_of(reserved)
        command = [DRIVER, f"--port={port}", f"--log-path={Path(profile, 'log')}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
            try:
                _wait_for(port)
                options = {"binary": CHROMIUM, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
                wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
                root = Browser(f"http://127.0.0.1:{port}", session)
                started = root.send("POST", "/session", {"capabilities": wanted})
                window = Browser(f"http://127.0.0.1:{port}/session/{started['sessionId']}", session)
                try:
                    yield window
                finally:
                    window.send("DELETE", "")
            finally:
                driver.terminate()


def _wait_for(port: int) -> None:
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            continue
    raise AssertionError("chromedriver does not listen")
