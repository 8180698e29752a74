"""How the tests of the embedded endpoint talk to it."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import requests

from upstash_state.local import LocalEndpoint

DEADLINE = 30.0


def send(
    endpoint: LocalEndpoint,
    body: object = None,
    path: str = "/",
    method: str = "POST",
    **headers: str,
) -> requests.Response:
    """One request. Anything but bytes and None goes as JSON; `a_b` becomes the header `a-b`."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    headers.setdefault("authorization", f"Bearer {endpoint.token}")
    return requests.request(
        method, endpoint.url + path, data=body, headers=headers, timeout=DEADLINE
    )


def ask(endpoint: LocalEndpoint, *command: object, **headers: str) -> Any:
    """What one command answers, parsed."""
    return send(endpoint, list(command), **headers).json()


def connect(endpoint: LocalEndpoint) -> socket.socket:
    host, _, port = endpoint.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=DEADLINE)


def converse(endpoint: LocalEndpoint, sent: bytes) -> bytes:
    """All that comes back for raw bytes on a connection of their own, until it ends."""
    with connect(endpoint) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def raw(method: str, body: bytes, headers: str, path: str = "/") -> bytes:
    """One request as bytes."""
    headers = f"Host: localhost\r\nContent-Length: {len(body)}\r\n{headers}"
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\n".encode() + body


def unavailable(name: str) -> str:
    """The error text for a command that Upstash does not have over REST."""
    return (
        f"ERR Command is not available: '{name}'. "
        "See https://upstash.com/docs/redis/features/restapi for details"
    )


def needs_lua(endpoint: LocalEndpoint) -> None:
    """Skip where scripts cannot run: over fakeredis without lupa."""
    if "fakeredis" in endpoint.backend:
        pytest.importorskip("lupa", reason="lupa has no wheel for this Python")
