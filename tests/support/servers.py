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


def reserve_port() -> socket.socket:
    """Bind a free port of 127.0.0.1, and do not listen: connections are refused.

    Until the socket is closed, no other process gets the port by chance. A server can listen on it
    if it sets SO_REUSEADDR, as servers do.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def port_of(sock: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    port: int = sock.getsockname()[1]
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
    with tempfile.TemporaryDirectory() as directory, reserve_port() as reserved:
        port = port_of(reserved)
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
