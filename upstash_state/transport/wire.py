"""The wire: one attempt is one POST, and what came back or why nothing did."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from ..errors import AnswerTooLargeError, UnavailableError
from ..settings import Secret, is_loopback
from .failures import failure_of
from .seam import Answer, Send

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

    from .connections import Adapter
    from .sockets import Attempt

# A request may have 10 MB (free and pay-as-you-go plans), and JSON may write a byte as six.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Before 2.6, urllib3 unpacks at once what it reads at once, and gzip can make a byte 1,032.
CHUNK = 32 * 1024

LONGEST_SYNC_TOKEN = 1000


class Wire:
    """Makes attempts at one endpoint, and keeps the connections for the next.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
    """

    def __init__(self, url: str, token: Secret) -> None:
        #: The endpoint's address.
        self.url = url
        #: The REST token.
        self.token = token
        self._lock = Lock()
        self._adapter: Adapter | None = None
        #: The last Upstash-Sync-Token. Sent back, it makes a replicated database show this client
        #: all that it wrote (docs: redis/howto/readyourwrites).
        self._sync_token: str | None = None

    def __repr__(self) -> str:
        return f"Wire({self.url!r})"

    def close(self) -> None:
        """Close the kept connections. The next attempt opens a new one."""
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def sender(self, *, repeatable: bool) -> Send:
        """What makes the attempts of one exchange.

        Args:
            repeatable: Whether the request may be sent again when it may have been executed.
        """
        fresh_only = False

        def send(path: str, body: bytes, deadline: float) -> Answer:
            nonlocal fresh_only
            from .sockets import Attempt

            attempt = Attempt(deadline, fresh_only=fresh_only, may_be_stale=repeatable)
            try:
                return self._attempt(attempt, path, body)
            except UnavailableError as error:
                if attempt.kept and not attempt.answered and error.transient:
                    # The other kept connections are as old, so none of them is tried.
                    fresh_only = True
                    error.retry_after = 0.0
                raise

        return send

    def _attempt(self, attempt: Attempt, path: str, body: bytes) -> Answer:
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            with attempt:
                adapter, request = self._prepare(path, body)
                # With stream, requests leaves the reading, and so its bound, to us.
                response = adapter.send(
                    request, stream=True, timeout=attempt.time_left(), proxies=adapter.proxies
                )
                try:
                    data = _read(response, attempt)
                finally:
                    response.close()
        except (RequestException, HTTPError, OSError, ValueError) as error:
            failure = failure_of(error, may_have_executed=attempt.may_have_executed)
        else:
            self._take_sync_token(response.headers.get("Upstash-Sync-Token", ""))
            return Answer(response.status_code, response.headers, data)
        raise failure

    def _take_sync_token(self, token: str) -> None:
        # It goes into the head of every request from now on, where servers refuse what is odd or
        # long (nginx: 8 KB in a line).
        if 0 < len(token) <= LONGEST_SYNC_TOKEN and token.isascii() and token.isprintable():
            self._sync_token = token

    def _prepare(self, path: str, body: bytes) -> tuple[Adapter, PreparedRequest]:
        with self._lock:
            if self._adapter is None:
                from urllib.parse import urlsplit

                from .connections import Adapter

                headers = {
                    "Authorization": Secret(f"Bearer {self.token}"),
                    "Content-Type": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": "upstash-state",
                }
                # Plain http to loopback through a proxy would send the token over the network.
                loopback = is_loopback(urlsplit(self.url).hostname or "")
                self._adapter = Adapter(self.url, headers, use_proxies=not loopback)
            adapter = self._adapter
        request = adapter.prepare(self.url + path, body)
        if self._sync_token is not None:
            request.headers["Upstash-Sync-Token"] = self._sync_token
        return adapter, request


def _read(response: Response, attempt: Attempt) -> bytes:
    if response.status_code < 200:
        # An interim answer: the real one follows, and must not be taken for the answer to the next
        # request. A connection is not kept when its answer was not read to the end.
        return b""
    headers = response.headers
    length = headers.get("Content-Length", "")
    if length.isdigit() and (len(length) > 15 or int(length) > MAX_ANSWER_BYTES):
        raise AnswerTooLargeError(f"an answer of more than {MAX_ANSWER_BYTES} bytes was given up")
    encoded = "Transfer-Encoding" in headers or "Content-Encoding" in headers
    if length.isdigit() and not encoded:
        # No more than that is read, so nothing needs to be counted.
        return bytes(response.raw.read())
    chunks = []
    size = 0
    for chunk in response.iter_content(CHUNK):
        # What arrives is bounded by the connection; how long it takes to unpack is not.
        attempt.time_left()
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(
                f"an answer of more than {MAX_ANSWER_BYTES} bytes was given up"
            )
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
