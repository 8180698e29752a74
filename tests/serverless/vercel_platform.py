"""Vercel's side of the socket over which its runtime reports that it is up, and what it logs."""

from __future__ import annotations

import base64
import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.support.processes import LIMIT


class VercelPlatform:
    """Takes the messages of one runtime: JSON, a NUL after each."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._folder = tempfile.TemporaryDirectory()
        #: For VERCEL_IPC_PATH.
        self.path = str(Path(self._folder.name) / "ipc.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._listener.settimeout(LIMIT)
        self._started = threading.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> VercelPlatform:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # The runtime has been ended before, and the connection with it.
        self._thread.join(LIMIT)
        self._listener.close()
        self._folder.cleanup()

    def port(self) -> int:
        """Where the runtime listens, once it has said so."""
        assert self._started.wait(LIMIT), "the runtime did not start"
        return self._port

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            rest = b""
            while piece := stream.read1():
                *messages, rest = (rest + piece).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        payload = message["payload"]
        if message["type"] == "server-started":
            self._port = payload["httpPort"]
            self._started.set()
        elif message["type"] == "log":
            self.log.append(base64.b64decode(payload["message"]).decode())
