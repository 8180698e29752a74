"""The README's Flask app, as a server of its own, and orders posted to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

APP = Path(__file__).parents[2] / "serverless" / "render"


def saves_what_is_posted(command: list[str], listens: str, ready: str) -> None:
    """Start a server and post 20 orders from 10 threads.

    Args:
        command: What starts it.
        listens: A regular expression for what it logs, whose group is the port.
        ready: What it logs last before it serves.
    """
    server = subprocess.Popen(
        command,
        cwd=APP,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout
        port = ""
        for line in server.stdout:
            print(line, end="", file=sys.stderr)
            found = re.search(listens, line)
            port = found[1] if found else port
            if ready in line:
                break
        with ThreadPoolExecutor(10) as pool:
            saved = list(pool.map(_post, [port] * 20, range(20)))
        assert all(saved), f"{command}: {saved.count(True)} of 20 saved"
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        print(server.stdout.read() if server.stdout else "", file=sys.stderr)


def _post(port: str, number: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/orders",
        json.dumps({"id": number}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(json.load(answer)["saved"])
