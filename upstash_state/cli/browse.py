"""`browse`: a page on this machine that shows the orders. It can only read."""

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from time import monotonic

import click

from .. import OrderStore, UpstashError
from .list import ordered
from .stored import content, opened, pretty, row
from .terminal import printable

PAGE = Path(__file__).with_name("browse.html")
# Seconds for which the orders are not read again, however many pages are open.
FRESH = 9.0
_POLICY = "default-src 'none'; connect-src 'self'; script-src 'nonce-{0}'; style-src 'nonce-{0}'"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
def browse(port: int) -> int:
    """Show the orders on a page in a browser, until Ctrl-C.

    The page reads them again every 10 seconds while it is in view, which costs 2 commands for each
    1,000 orders. Only this machine can open it, and only by the address that is printed.

    \b
    Example:
      upstash-state browse
    """
    with opened() as store, Server(store, port) as server:
        print(f"The orders of {store.client.url}, keys {printable(store.prefix)}*, are shown at")
        print(f"\n{server.origin}{server.path}\n\nCtrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


class Server(ThreadingHTTPServer):
    """Serves the page at `origin`, under the secret `path`.

    Args:
        store: The orders.
        port: The port of loopback, 0 for a free one.
    """

    daemon_threads = True

    def __init__(self, store: OrderStore, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.path = f"/{secrets.token_urlsafe(32)}/"
        self.kinds = {self.path: "text/html", f"{self.path}orders": "application/json"}
        self._store, self._lock = store, Lock()
        self._orders: list[dict[str, str]] = []
        self._read_at = -FRESH

    def orders(self) -> dict[str, object]:
        """Return the orders, the youngest first, and how many seconds ago they were read."""
        problem = ""
        with self._lock:
            try:
                if monotonic() - self._read_at >= FRESH:
                    texts = dict(pair for page in self._store.iter_texts() for pair in page)
                    rows = ordered([row(*pair) for pair in texts.items()])
                    full = (pretty(content(texts[one.id])) for one in rows)
                    self._orders = [one.as_text() | {"text": text} for one, text in zip(rows, full)]
                    self._read_at = monotonic()
            except UpstashError as error:
                problem = printable(str(error))
            age = monotonic() - self._read_at
            return {"orders": self._orders, "age": age, "problem": problem}

    def handle_error(self, *args: object) -> None:
        """Ignore a browser that has closed its connection."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 30.0

    def do_GET(self) -> None:
        own, nonce = self.server.origin, secrets.token_urlsafe(16)
        # A page of another site can reach loopback, also under its own name (DNS rebinding).
        foreign = {f"http://{self.headers['Host']}", self.headers.get("Origin", own)} != {own}
        kind = None if foreign else self.server.kinds.get(self.path)
        self.send_response(403 if foreign else 200 if kind else 404)
        self.send_header("Content-Type", f"{kind or 'text/plain'}; charset=utf-8")
        self.send_header("Content-Security-Policy", _POLICY.format(nonce))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if kind == "text/html":
            self.wfile.write(PAGE.read_bytes().replace(b"NONCE", nonce.encode()))
        elif kind:
            self.wfile.write(json.dumps(self.server.orders()).encode())

    def log_message(self, *args: object) -> None:
        """Log nothing: the path is a secret."""
