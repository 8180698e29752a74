"""A SOCKS proxy (RFC 1928): version 5, without authentication, CONNECT by name only."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from typing import BinaryIO

from tests.locked_down.proxy import Proxy

# Success, from an address that is a name of 255 bytes, so that it can be sent slowly.
REPLY = b"\x05\x00\x00\x03\xff" + b"x" * 255 + b"\x00\x00"


class SocksProxy(Proxy):
    """The proxy.

    Args:
        ports: The ports of 127.0.0.1 that hosts stand for, by `name:port`.
        pace: Seconds between the bytes of its reply, 0 for all at once.
    """

    established = b""

    def __init__(self, ports: Mapping[str, int], *, pace: float = 0.0) -> None:
        self._pace = pace
        self._closing = threading.Event()
        super().__init__(ports)

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        super().__exit__(*exc_info)

    def _admit(self, client: socket.socket) -> tuple[str, int | None]:
        with client.makefile("rb") as reader:
            _read(reader, _read(reader, 2)[1])
            client.sendall(b"\x05\x00")
            name = _read(reader, _read(reader, 5)[4]).decode()
            target = f"{name}:{int.from_bytes(_read(reader, 2), 'big')}"
        self.asked.append(target)
        for byte in REPLY if self._pace else []:
            client.sendall(bytes([byte]))
            if self._closing.wait(self._pace):
                return target, None
        if not self._pace:
            client.sendall(REPLY)
        return target, self._ports[target]


def _read(reader: BinaryIO, count: int) -> bytes:
    data = reader.read(count)
    if len(data) < count:
        raise ConnectionError("the client went away in the middle of a request")
    return data
