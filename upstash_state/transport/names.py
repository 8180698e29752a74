"""Name lookups that end before a deadline.

What cannot be bounded: the platform's name lookup has no timeout. It runs in a daemon thread that
the call stops waiting for in time, and that ends when the platform's resolver gives up.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Any

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class _Lookup:
    """One name lookup under way, shared by all who wait for the same name."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._done = Event()
        self._error: OSError | None = None
        self._addresses: Sequence[AddressInfo] = []

    def run(self) -> None:
        try:
            self._addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._error = error if isinstance(error, OSError) else OSError(str(error))
        with _lookups_lock:
            _lookups.pop((self._host, self._port), None)
        self._done.set()

    def result(self, seconds: float) -> Sequence[AddressInfo]:
        if not self._done.wait(seconds):
            raise TimeoutError(f"{self._host} was not resolved in time")
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        return self._addresses


_lookups: dict[tuple[str, int], _Lookup] = {}
_lookups_lock = Lock()


def _forget_lookups() -> None:
    global _lookups_lock
    _lookups_lock = Lock()
    _lookups.clear()


if hasattr(os, "register_at_fork"):
    # The threads that would finish them stay in the parent.
    os.register_at_fork(after_in_child=_forget_lookups)


def resolve(host: str, port: int, deadline: float) -> Sequence[AddressInfo]:
    """The addresses of a host, as `socket.getaddrinfo` gives them, before the deadline.

    Args:
        host: The host's name or address.
        port: The port, for the addresses.
        deadline: When to stop waiting, on `time.monotonic()`'s clock.

    Raises:
        OSError: The name is not known, or was not looked up in time.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass
    key = (host, port)
    with _lookups_lock:
        under_way = _lookups.get(key)
        lookup = under_way or _Lookup(host, port)
        _lookups[key] = lookup
    if not under_way:
        try:
            Thread(target=lookup.run, name="upstash_state name lookup", daemon=True).start()
        except RuntimeError:
            # At the end of the interpreter, where apps save for the last time, no thread starts.
            lookup.run()
    return lookup.result(max(deadline - time.monotonic(), 0))
