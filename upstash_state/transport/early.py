"""A process's first connection, begun in a thread while requests is still being imported.

Nothing is begun where somebody may have put something in between: requests is there already (mocks,
recorders and tracers import it), sockets or TLS are not Python's own, a proxy is set.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .sockets import begin


def begin_connection(url: str, deadline: float) -> Callable[[float], Any] | None:
    """Begin to connect to an endpoint.

    Args:
        url: Its address.
        deadline: When to have given up, on `time.monotonic()`'s clock.

    Returns:
        What gives the connected socket, or raises what went wrong, by another such deadline. None:
        nothing was begun.
    """
    address = urlsplit(url)
    if (
        address.scheme != "https"
        or {"requests", "urllib3"} & sys.modules.keys()
        or socket.socket.__module__ != "socket"
        or ("ssl" in sys.modules and not _is_pythons_own(sys.modules["ssl"]))
        # There, the system may name a proxy.
        or sys.platform in ("darwin", "win32")
        or any(name.lower().endswith("_proxy") for name in os.environ)
    ):
        return None
    return begin(lambda: _connect(str(address.hostname), address.port or 443, deadline))


def _is_pythons_own(ssl: Any) -> bool:
    # Half imported, by another thread, it has none yet.
    return getattr(getattr(ssl, "SSLContext", None), "__module__", "") == "ssl"


def _connect(host: str, port: int, deadline: float) -> Any:
    sock = socket.create_connection((host, port), deadline - time.monotonic())
    try:
        import ssl

        from certifi import where

        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        # As requests chooses it.
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or where()
        kind = "capath" if os.path.isdir(bundle) else "cafile"
        context.load_verify_locations(**{kind: bundle})
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
