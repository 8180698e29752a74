"""Real servers for the tests, each with an end."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

REDIS_BINARY = shutil.which("redis-server")
WITHOUT_REDIS = "redis-server is not installed (Debian: apt install redis-server)"
#: For tests that start a Redis server of their own.
needs_redis_server = pytest.mark.skipif(REDIS_BINARY is None, reason=WITHOUT_REDIS)
_READY_SECONDS = 10.0


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, at least not a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis_server(*options: str) -> Iterator[str]:
    """Run an empty Redis server that writes nothing to disk.

    Args:
        options: Further arguments for redis-server, as `--requirepass secret`.

    Yields:
        Its address, `redis://127.0.0.1:PORT/0`.
    """
    assert REDIS_BINARY, WITHOUT_REDIS
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        command = [REDIS_BINARY, "--bind", "127.0.0.1", "--port", str(port), "--dir", directory]
        command += ["--save", "", "--appendonly", "no", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            _wait_until_ready(process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    log = b""
    deadline = time.monotonic() + _READY_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"Ready to accept connections" not in log:
            if not selector.select(deadline - time.monotonic()):
                raise TimeoutError(f"redis-server is not ready after {_READY_SECONDS} s")
            # Not readline, which takes more than a line from under the selector's eyes.
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise RuntimeError(f"redis-server ended: {log.decode(errors='replace')}")
            log += piece
