"""An app on a locked-down host: does each thing once, and says as JSON what came of it.

It is run as a process of its own, with what the host is like in its environment:
ONLY_PORT   the one port that may be connected to; it sees to that itself
NO_WRITING  nothing may be written to; likewise
PROBES      ports to try a plain TCP connection to, as `host:port host:port`
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import sys
import tempfile
import threading


def guard(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what the host refuses."""
    if event == "socket.connect" and "ONLY_PORT" in os.environ:
        address = arguments[1]
        if isinstance(address, tuple) and str(address[1]) != os.environ["ONLY_PORT"]:
            raise ConnectionRefusedError(f"port {address[1]} is closed")
    if event in ("open", "os.mkdir") and "NO_WRITING" in os.environ:
        flags = arguments[2]
        if event == "os.mkdir" or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            raise OSError(30, "Read-only file system")


def probe(host: str, port: int) -> str:
    """What becomes of a connection."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def can_write() -> bool:
    """Whether there is anywhere to write to."""
    try:
        tempfile.TemporaryFile().close()
    except OSError:
        return False
    return True


sys.addaudithook(guard)
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
http.client.HTTPConnection.debuglevel = 1

from upstash_state import (  # noqa: E402
    redis_delete_order,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
)

order = {"name": "#26", "customer": {"name": "Zoë Groß"}}
result: dict[str, object] = {
    "save": redis_save_order("1", order) and redis_save_order("2", order),
    "get": redis_get_order("1") == order,
    "get_all": redis_get_all_orders() == {"1": order, "2": order},
    "count": redis_get_order_count(),
    "delete": redis_delete_order("2"),
}
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        # A name lookup's thread has nothing left to do by now, but may still be about to end.
        thread.join(1)
result["threads"] = [thread.name for thread in threading.enumerate()]
result["can_write"] = can_write()
result["probes"] = {
    name: probe(name.partition(":")[0], int(name.partition(":")[2]))
    for name in os.environ.get("PROBES", "").split()
}
print(json.dumps(result))
