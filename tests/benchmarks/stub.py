"""A fast endpoint, in a process of its own.

It speaks Upstash's REST API for the commands that the contenders send, and keeps its values
encoded. It also forwards to a real Redis. Each network has a port, whose answers come later by the
network's delay. The token, up to a "-", chooses the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.request import urlopen

from tests.support.paths import STORED_ORDERS

#: Seconds of round-trip time by network. The last two networks give no answer.
DELAYS = {"0 ms": 0.0, "20 ms": 0.020, "150 ms": 0.150}
HANGING, REFUSING = "hanging", "refusing"
NETWORKS = (*DELAYS, HANGING, REFUSING)
#: The number of orders in each database at the start, which is also the database's token.
SIZES = (0, 105, 10_000, 100_000)

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKEN = re.compile(rb"\r\nauthorization: *Bearer (\d+)", re.IGNORECASE)
_BASE64 = re.compile(rb"\r\nupstash-encoding: *base64", re.IGNORECASE)


def stored_orders() -> list[str]:
    """Return the texts of real orders, 1.6 KB each on average."""
    with STORED_ORDERS.open(encoding="utf-8") as lines:
        return [json.loads(line)["stored"] for line in lines]


class Usage(NamedTuple):
    """The requests and commands that a server has received."""

    requests: int = 0
    commands: int = 0

    def since(self, before: Usage) -> Usage:
        return Usage(*(now - then for now, then in zip(self, before)))


class Text:
    """A string as JSON, plain and as base64. Each is encoded once, when it is needed."""

    __slots__ = ("_base64", "_plain", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._plain = self._base64 = b""

    def encoded(self, base64: bool) -> bytes:
        if base64:
            if not self._base64:
                self._base64 = b'"' + b64encode(self._text.encode()) + b'"'
            return self._base64
        if not self._plain:
            self._plain = json.dumps(self._text, ensure_ascii=False).encode()
        return self._plain


OK = Text("OK")
OK._base64 = b'"OK"'
PONG = Text("PONG")


class Database:
    """Keys and values. SCAN's cursors are positions, so every page but the last is full."""

    def __init__(self, size: int) -> None:
        texts = [Text(text) for text in stored_orders()]
        self._values = {f"order:{number}": texts[number % len(texts)] for number in range(size)}
        self._keys = {key: Text(key) for key in self._values}
        self._listed: list[str] | None = None

    def run(self, command: list[Any], base64: bool) -> bytes:
        name, *args = command
        match name.upper():
            case "SET":
                self._set(args[0], args[1])
                return OK.encoded(base64)
            case "MSETEX":
                for key, value in zip(args[1:-2:2], args[2:-2:2]):
                    self._set(key, value)
                return b"1"
            case "GET":
                return self._value(args[0], base64)
            case "MGET":
                return b"[" + b",".join([self._value(key, base64) for key in args]) + b"]"
            case "EXPIRE":
                return b"1" if args[0] in self._values else b"0"
            case "SCAN":
                options = dict(zip(args[1::2], args[2::2]))
                start, count = int(args[0]), int(options["COUNT"])
                listed = self._list()
                end = start + count
                cursor = Text(str(end if end < len(listed) else 0)).encoded(base64)
                found = self._matching(listed[start:end], options["MATCH"], base64)
                return b"[" + cursor + b"," + found + b"]"
            case "KEYS":
                return self._matching(self._list(), args[0], base64)
            case "PING":
                return PONG.encoded(base64)
        raise ValueError(f"the stub has no {name}")

    def _set(self, key: str, value: str) -> None:
        if key not in self._values:
            self._keys[key] = Text(key)
            self._listed = None
        self._values[key] = Text(value)

    def _value(self, key: str, base64: bool) -> bytes:
        value = self._values.get(key)
        return b"null" if value is None else value.encoded(base64)

    def _list(self) -> list[str]:
        if self._listed is None:
            self._listed = list(self._values)
        return self._listed

    def _matching(self, keys: Iterable[str], pattern: str, base64: bool) -> bytes:
        prefix = pattern.removesuffix("*")
        found = [self._keys[key].encoded(base64) for key in keys if key.startswith(prefix)]
        return b"[" + b",".join(found) + b"]"


class Server:
    """The state that the connections of one port share."""

    def __init__(self, databases: dict[bytes, Database], delay: float) -> None:
        self.databases = databases
        self.delay = delay
        self.usage = Usage()
        self._answers = 0

    def answer(self, target: bytes, head: bytes, body: bytes) -> bytes:
        if target == b"/usage":
            return self._response(json.dumps(self.usage).encode())
        token = _TOKEN.search(head)
        database = self.databases[token[1]] if token else self.databases[b"0"]
        base64 = _BASE64.search(head) is not None
        payload = json.loads(body)
        if target == b"/":
            commands = 1
            content = b'{"result":' + database.run(payload, base64) + b"}"
        else:
            commands = len(payload)
            results = [b'{"result":' + database.run(item, base64) + b"}" for item in payload]
            content = b"[" + b",".join(results) + b"]"
        self.usage = Usage(self.usage.requests + 1, self.usage.commands + commands)
        return self._response(content)

    def _response(self, content: bytes) -> bytes:
        self._answers += 1
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Date: Mon, 01 Dec 2025 11:00:28 GMT\r\n"
            b"Upstash-Sync-Token: %012d\r\nContent-Length: %d\r\n\r\n%b"
            % (self._answers, len(content), content)
        )


class HTTP(asyncio.Protocol):
    """A kept connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._needed:
            return
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end])
        length = _LENGTH.search(head)
        self._needed = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) < self._needed:
            return
        body = bytes(self._received[end + 4 : self._needed])
        # No contender sends a second request before the first is answered.
        self._received.clear()
        self._needed = 0
        answer = self._server.answer(head.split(b" ", 2)[1], head, body)
        if self._server.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._server.delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def _forward(redis_port: int, delay: float) -> int:
    """Forward a port to Redis, each request later by a round trip. Return the port."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait: float) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 20):
            if wait:
                # A contender waits for the answer before it sends the next request, so no request
                # can overtake another.
                loop.call_later(wait, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", redis_port)
        # The end of the process cancels open connections.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(copy(reader, to_redis, delay), copy(from_redis, writer, 0))

    return _port(await asyncio.start_server(accept, "127.0.0.1", 0))


async def _hang() -> int:
    """Accept connections, and never answer. Return the port."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError, ConnectionError):
            while await reader.read(1 << 20):
                pass
            writer.close()

    return _port(await asyncio.start_server(accept, "127.0.0.1", 0))


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _serve(redis_port: int) -> None:
    databases = {str(size).encode(): Database(size) for size in SIZES}
    loop = asyncio.get_running_loop()
    ports: dict[str, tuple[int, int]] = {}
    for network, delay in DELAYS.items():
        server = Server(databases, delay)
        listening = await loop.create_server(lambda server=server: HTTP(server), "127.0.0.1", 0)
        redis = await _forward(redis_port, delay) if delay else redis_port
        ports[network] = (_port(listening), redis)
    ports[HANGING] = (await _hang(),) * 2
    # Bound, so that nobody else gets it, and without a listener.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        ports[REFUSING] = (bound.getsockname()[1],) * 2
        print(json.dumps(ports), flush=True)
        # Standard input ends when the process that started this one ends, in any way.
        ended = asyncio.Event()

        def wait_for_end() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=wait_for_end, daemon=True).start()
        await ended.wait()


class Stub(NamedTuple):
    """The ports of a running stub by network: its own, and the one of Redis."""

    ports: dict[str, tuple[int, int]]

    def url(self, network: str) -> str:
        return f"http://127.0.0.1:{self.ports[network][0]}"

    def redis_port(self, network: str) -> int:
        return self.ports[network][1]

    def usage(self) -> Usage:
        """Return the usage of the port without delay."""
        with urlopen(f"{self.url('0 ms')}/usage") as answer:
            return Usage(*json.load(answer))


@contextmanager
def running(redis_port: int) -> Iterator[Stub]:
    """Run a stub.

    Args:
        redis_port: The real Redis server's port on 127.0.0.1.
    """
    command = [sys.executable, "-m", __name__, str(redis_port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        yield Stub(json.loads(process.stdout.readline()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_port", type=int)
    asyncio.run(_serve(parser.parse_args().redis_port))
