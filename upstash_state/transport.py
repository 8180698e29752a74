"""One exchange with the endpoint, within its time budget: retries, breaker, kept connections."""

from __future__ import annotations

import os
from json import JSONEncoder
from threading import Lock
from time import monotonic, sleep

from .answers import interpret
from .breaker import Breaker
from .budget import deadline_within
from .errors import (
    AnswerTooLargeError,
    EndpointTimeoutError,
    ResponseError,
    UnavailableError,
)
from .failures import Failure, failure_of
from .settings import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from requests import PreparedRequest, Response

    from .connections import Adapter
    from .settings import Secret
    from .sockets import Attempt

COMMAND, PIPELINE, TRANSACTION = "/", "/pipeline", "/multi-exec"

# "Exponential backoff and full jitter" (AWS Architecture Blog): the wait before the nth retry is
# anywhere between 0 and FIRST_PAUSE * 2**n. Three retries wait 0.35 s on average, 0.7 s at most,
# which a request handler can bear.
RETRIES = 3
FIRST_PAUSE = 0.1

# A request may have 10 MB (free and pay-as-you-go plans), and JSON may write a byte as six.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Before 2.6, urllib3 unpacks at once what it reads at once, and gzip can make a byte 1,032.
CHUNK = 32 * 1024

LONGEST_SYNC_TOKEN = 1000

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Transport:
    """Sends commands to one endpoint, from any number of threads, before and after a fork.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
        timeout: Seconds that one exchange may take in all, its retries and pauses included.
        breaker: What decides whether the endpoint is left alone.
        pause: Waits for so many seconds.
        jitter: Picks a number of seconds between two.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        timeout: float,
        breaker: Breaker | None = None,
        pause: Callable[[float], None] = sleep,
        jitter: Callable[[float, float], float] | None = None,
    ) -> None:
        self.url = url
        self._token = token
        self._timeout = timeout
        self._breaker = breaker or Breaker()
        self._pause = pause
        self._jitter = jitter
        self._start()

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._adapter: Adapter | None = None
        #: The last Upstash-Sync-Token. Sent back, it makes a replicated database show this client
        #: all that it wrote (docs: redis/howto/readyourwrites).
        self._sync_token: str | None = None

    def close(self) -> None:
        """Close the kept connections. The next exchange opens a new one."""
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def run(self, command: Sequence[str], *, repeatable: bool) -> Any:
        """Run one command.

        Args:
            command: Its name and arguments.
            repeatable: Whether it may be sent again when it may have been run already.

        Returns:
            Its result.

        Raises:
            ResponseError: The endpoint refused.
            UnavailableError: It could not be reached or did not work.
        """
        answer = self._exchange(COMMAND, command, None, repeatable)
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def run_many(
        self, path: str, commands: Sequence[Sequence[str]], *, repeatable: bool
    ) -> list[Any]:
        """Run several commands in one request.

        Args:
            path: PIPELINE, or TRANSACTION for all or nothing.
            commands: Each one's name and arguments.
            repeatable: Whether all may be sent again when they may have been run already.

        Returns:
            For each command its result, or the `ResponseError` that it was refused with.

        Raises:
            ResponseError: The endpoint refused the request as a whole.
            UnavailableError: It could not be reached or did not work.
        """
        answers = self._exchange(path, commands, len(commands), repeatable)
        if isinstance(answers, ResponseError):
            raise answers
        return list(answers)

    def _exchange(
        self, path: str, payload: Sequence[Any], expected: int | None, repeatable: bool
    ) -> Any:
        if os.getpid() != self._pid:
            # Sockets must not be shared with the parent, nor may a lock or a probe be waited for
            # that a thread of the parent holds.
            self._breaker = Breaker()
            self._start()
        body = _encode(payload).encode()
        deadline = deadline_within(self._timeout)
        if monotonic() >= deadline:
            raise EndpointTimeoutError("not asked: the time budget was used up before")
        probe = self._breaker.enter()
        news = False
        try:
            answer = self._until(deadline, path, body, expected, repeatable)
            news = True
        except AnswerTooLargeError:
            # It works, but cannot be asked for that much at once.
            raise
        except UnavailableError as error:
            news = True
            self._breaker.failed(error, probe=probe)
            raise
        finally:
            if not news:
                self._breaker.abandoned(probe=probe)
        self._breaker.succeeded()
        return answer

    def _until(
        self, deadline: float, path: str, body: bytes, expected: int | None, repeatable: bool
    ) -> Any:
        from .sockets import Attempt

        retries = 0
        fresh_only = False
        while True:
            attempt = Attempt(deadline, fresh_only=fresh_only, hedged=repeatable)
            outcome = self._once(attempt, path, body, expected)
            if not isinstance(outcome, Failure):
                return outcome
            if not outcome.passing or (outcome.may_have_run and not repeatable):
                raise outcome.error
            if attempt.kept and not attempt.answered:
                # The other kept connections are as old, so none of them is tried.
                fresh_only = True
                continue
            wait = self._wait(retries) if outcome.retry_after is None else outcome.retry_after
            retries += 1
            if retries > RETRIES or monotonic() + wait >= deadline:
                raise outcome.error
            self._pause(wait)

    def _wait(self, retries: int) -> float:
        if self._jitter is None:
            from random import uniform

            self._jitter = uniform
        return self._jitter(0, FIRST_PAUSE * 2**retries)

    def _once(self, attempt: Attempt, path: str, body: bytes, expected: int | None) -> Any:
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
        except AnswerTooLargeError as error:
            return Failure(error)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            return failure_of(error, may_have_run=attempt.may_have_run)
        answer = interpret(
            response.status_code, response.headers, data, expected, secret=self._token
        )
        if isinstance(answer, Failure):
            answer.passing |= attempt.answered and _may_be_cut(response, data)
        else:
            self._take_sync_token(response.headers.get("Upstash-Sync-Token", ""))
        return answer

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
                from .settings import Secret

                headers = {
                    "Authorization": Secret(f"Bearer {self._token}"),
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


def _may_be_cut(response: Response, data: bytes) -> bool:
    # To http.client, headers end where the connection does, so of an answer that ended among them
    # a status is left, and a body of nothing that nobody announced.
    headers = response.headers
    announced = "Content-Length" in headers or "Transfer-Encoding" in headers
    return response.status_code == 200 and not data and not announced


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
