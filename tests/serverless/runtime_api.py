"""Lambda's Runtime API, which the runtime in each instance asks for events.

As AWS documents it ("Using the Lambda runtime API for custom runtimes"), version 2018-06-01.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any

from tests.support.processes import LIMIT

_PREFIX = "/2018-06-01/runtime"


class RuntimeApi:
    """The API for one instance: hands events out one at a time, and takes the results."""

    def __init__(self) -> None:
        self._events: SimpleQueue[tuple[str, float, bytes] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        self._asked = threading.Semaphore(0)
        self._serial = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def address(self) -> str:
        """For AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> RuntimeApi:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._events.put(None)
        self._server.shutdown()
        self._thread.join(LIMIT)
        self._server.server_close()

    def wait_until_idle(self) -> None:
        """Wait until the runtime asks for its next event."""
        assert self._asked.acquire(timeout=LIMIT), "the runtime did not ask for an event"

    def send(self, event: Any, seconds: float = 3.0) -> None:
        """Hand an event out, to be done with in so many seconds; 3 is Lambda's default."""
        self._serial += 1
        event_id = f"8476a536-e9f4-11e8-9739-{self._serial:012}"
        self._events.put((event_id, time.time() + seconds, json.dumps(event).encode()))

    def result(self) -> Any:
        """What the handler returned for the last event."""
        try:
            kind, body = self._results.get(timeout=LIMIT)
        except Empty:
            raise AssertionError("the runtime did not answer") from None
        assert kind == "response", body.decode()
        return json.loads(body)

    def next_event(self) -> tuple[str, float, bytes] | None:
        """An event's id, its deadline by the clock, and its body; None when all is over."""
        self._asked.release()
        return self._events.get()

    def take(self, kind: str, body: bytes) -> None:
        """Take a response or an error."""
        self._results.put((kind, body))


def _handler(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == f"{_PREFIX}/invocation/next"
            event = api.next_event()
            if event is None:
                self.close_connection = True
                return
            event_id, deadline, body = event
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Lambda-Runtime-Aws-Request-Id", event_id)
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000)))
            self.send_header(
                "Lambda-Runtime-Invoked-Function-Arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:orders",
            )
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self._body()
            # /invocation/ID/response, /invocation/ID/error or /init/error
            api.take(self.path.rsplit("/", 1)[1], body)
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"]))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
