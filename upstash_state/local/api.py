"""The application behind the embedded endpoint: tokens, formats, limits; Redis does the rest."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from hmac import compare_digest
from http import HTTPStatus
from typing import NamedTuple

from .door import refuse_foreign
from .http import HttpRequest, head, response
from .misbehaviour import Misbehaviour
from .protocol import (
    Command,
    Failure,
    Form,
    Refusal,
    Reply,
    read_commands,
    size,
    to_event,
    to_json,
    to_resp2,
    token_in_query,
    too_large,
)
from .redis import Backend
from .refusals import no_permission, why_refused

logger = logging.getLogger(__name__)

_METHODS = "HEAD, GET, POST, PUT"
_JSON = {"Content-Type": "application/json"}
_RESP2 = {"Content-Type": "application/octet-stream"}
_EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "close"}


class Usage(NamedTuple):
    """What an endpoint has done so far.

    Attributes:
        requests: HTTP requests answered.
        commands: Commands sent to Redis. Upstash bills these, and the commands that scripts call,
            which are not counted here.
        bytes_received: Bytes of HTTP received, heads included.
        bytes_sent: Bytes of HTTP sent, heads included.
    """

    requests: int = 0
    commands: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class Api:
    """Answers the requests of one endpoint. Threads may share it."""

    def __init__(
        self,
        backend: Backend,
        *,
        token: str,
        read_only_token: str,
        max_request_bytes: int,
        misbehaviour: Misbehaviour,
        guarded: bool,
        any_name: bool,
    ) -> None:
        """Create the application.

        Args:
            backend: Executes the commands.
            token: The token that may do everything.
            read_only_token: The token that may only read.
            max_request_bytes: Size limit in bytes of a request's body and of a command's reply.
            misbehaviour: The faults to simulate.
            guarded: Whether to refuse pages of other sites.
            any_name: See refuse_foreign.
        """
        self.max_request_bytes = max_request_bytes
        self._backend = backend
        self._token = token.encode()
        self._read_only_token = read_only_token.encode()
        self._misbehaviour = misbehaviour
        self._guarded = guarded
        self._any_name = any_name
        self._sync = itertools.count(1)
        self._lock = threading.Lock()
        self._usage = Usage()

    def usage(self) -> Usage:
        """Return the counts so far. A request is counted before it is answered."""
        with self._lock:
            return self._usage

    def respond(self, request: HttpRequest) -> bytes | Iterator[bytes]:
        """Return the whole answer to a request, or an iterator over the pieces of a stream.

        An empty piece means that there is nothing to send at the moment.
        """
        started = time.perf_counter()
        status, headers = HTTPStatus.OK, {**_JSON, **self._sync_token()}
        commands: list[Command] = []
        try:
            if self._guarded:
                refuse_foreign(request.headers, any_name=self._any_name)
            headers |= _cors(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                body = b""
            else:
                read_only = self._admit(request)
                form, commands = read_commands(request.target, request.body or b"")
                if form == "stream" and request.method != "HEAD":
                    return self._stream(request, commands[0], headers, read_only=read_only)
                replies = self._replies(form, commands, read_only=read_only)
                status, content_type, body = _encoded(request, form, replies)
                headers |= content_type
        except Refusal as refusal:
            status, body = refusal.status, _error(refusal.text)
            if status == HTTPStatus.METHOD_NOT_ALLOWED:
                headers["Allow"] = _METHODS
            elif status == HTTPStatus.TOO_MANY_REQUESTS:
                headers["Retry-After"] = "1"
        except Exception:
            logger.exception("the embedded endpoint failed to answer a request")
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, _error("ERR internal error")
        if request.connection:
            headers["Connection"] = request.connection
        answer = response(status, headers, body, send_body=request.method != "HEAD")
        self._count(
            Usage(requests=1, bytes_received=request.bytes_received, bytes_sent=len(answer))
        )
        if logger.isEnabledFor(logging.DEBUG):
            what = f"{_described(commands)}{body.decode() if status != HTTPStatus.OK else ''}"
            milliseconds = (time.perf_counter() - started) * 1000
            logger.debug("%s %d, %.1f ms: %s", request.method, status, milliseconds, what)
        return answer

    def respond_to_garbage(self, status: HTTPStatus, text: str) -> bytes:
        """Return the whole answer to bytes that are not a request."""
        headers = {**_JSON, **self._sync_token(), "Connection": "close"}
        answer = response(status, headers, _error(text))
        self._count(Usage(requests=1, bytes_sent=len(answer)))
        return answer

    def _admit(self, request: HttpRequest) -> bool:
        """Return whether the request may only read."""
        if request.method not in _METHODS.split(", "):
            raise Refusal("ERR method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
        self._misbehaviour.before_request()
        read_only = self._is_read_only(request)
        base64 = request.headers.get("Upstash-Encoding") == "base64"
        wanted = request.headers.get("Upstash-Response-Format", "json")
        if wanted not in ("json", "resp2") or (base64 and wanted == "resp2"):
            raise Refusal("ERR unsupported response format")
        if request.body is None:
            raise Refusal(too_large(self.max_request_bytes, request.body_bytes))
        return read_only

    def _is_read_only(self, request: HttpRequest) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = given.strip().encode("latin-1") if scheme.lower() == "bearer" else None
        if token is None:
            token = token_in_query(request.target) or b""
        if compare_digest(token, self._token):
            return False
        if compare_digest(token, self._read_only_token):
            return True
        raise Refusal("WRONGPASS invalid or missing auth token", HTTPStatus.UNAUTHORIZED)

    def _replies(self, form: Form, commands: list[Command], *, read_only: bool) -> list[Reply]:
        refusals = [
            why_refused(command, read_only=read_only) or self._misbehaviour.refuse_command()
            for command in commands
        ]
        allowed = [command for command, refusal in zip(commands, refusals) if refusal is None]
        atomic = form == "multi-exec"
        if atomic and (refused := next(filter(None, refusals), None)):
            raise Refusal(refused)
        self._count(Usage(commands=len(allowed)))
        answered = iter(self._backend.run(allowed, atomic=atomic) if allowed else [])
        replies = [next(answered) if text is None else Failure(text) for text in refusals]
        limit = self.max_request_bytes
        sizes = map(size, replies)
        return [
            reply if actual <= limit else Failure(too_large(limit, actual))
            for reply, actual in zip(replies, sizes)
        ]

    def _stream(
        self, request: HttpRequest, command: Command, headers: dict[str, str], *, read_only: bool
    ) -> Iterator[bytes]:
        refused = no_permission(command[0].decode()) if read_only else None
        if refused or (refused := self._misbehaviour.refuse_command()):
            raise Refusal(refused)
        said = self._backend.listen(command)
        first = next(reply for reply in said if reply is not None)
        if isinstance(first, Failure):
            raise Refusal(first.text)
        logger.debug("%s 200, a stream: %s", request.method, _described([command]))
        started = head(HTTPStatus.OK, headers | _EVENTS) + to_event(first, first=True)
        self._count(Usage(requests=1, commands=1, bytes_received=request.bytes_received))
        return self._events(started, said)

    def _events(self, started: bytes, said: Iterator[Reply]) -> Iterator[bytes]:
        pieces = (b"" if reply is None else to_event(reply, first=False) for reply in said)
        with suppress(Refusal):  # The Redis server is gone.
            for piece in itertools.chain([started], pieces):
                self._count(Usage(bytes_sent=len(piece)))
                yield piece

    def _sync_token(self) -> dict[str, str]:
        return {"Upstash-Sync-Token": f"{next(self._sync):012d}"}

    def _count(self, more: Usage) -> None:
        with self._lock:
            self._usage = Usage(*map(sum, zip(self._usage, more)))


def _cors(request: HttpRequest) -> dict[str, str]:
    if "Origin" not in request.headers:
        return {}
    # The read-only token is meant for browsers, which ask for these (Fetch, CORS protocol).
    asked = request.headers.get("Access-Control-Request-Headers", "")
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": " ".join(asked.split()),
        "Access-Control-Expose-Headers": "Upstash-Sync-Token",
    }


def _encoded(
    request: HttpRequest, form: Form, replies: list[Reply]
) -> tuple[HTTPStatus, dict[str, str], bytes]:
    single = form in ("command", "stream")
    failed = single and isinstance(replies[0], Failure)
    status = HTTPStatus.BAD_REQUEST if failed else HTTPStatus.OK
    # "This option is not applicable to /multi-exec"
    if request.headers.get("Upstash-Response-Format") == "resp2" and form != "multi-exec":
        return status, _RESP2, b"".join(map(to_resp2, replies))
    base64 = request.headers.get("Upstash-Encoding") == "base64"
    return status, _JSON, to_json(replies, single=single, base64=base64)


def _described(commands: list[Command]) -> str:
    shown = (b" ".join(command[:2]).decode(errors="replace") for command in commands[:3])
    more = f" and {len(commands) - 3} more" if len(commands) > 3 else ""
    # repr escapes the control sequences of terminals.
    return ", ".join(repr(text[:80])[1:-1] for text in shown) + more + " "


def _error(text: str) -> bytes:
    return to_json([Failure(text)], single=True, base64=False)
