"""What the embedded endpoint answers: tokens, formats, limits, and Redis for the rest."""

from __future__ import annotations

import itertools
import logging
import threading
from hmac import compare_digest
from http import HTTPStatus
from typing import NamedTuple

from .http import Request, response
from .protocol import (
    Command,
    Failure,
    Refusal,
    Reply,
    read_commands,
    size,
    to_json,
    to_resp2,
    token_in_query,
    too_large,
    why_refused,
)
from .redis import Backend

logger = logging.getLogger(__name__)

_METHODS = ("HEAD", "GET", "POST", "PUT")


class Usage(NamedTuple):
    """What an endpoint has been asked to do so far.

    Attributes:
        requests: HTTP requests answered.
        commands: Commands that reached Redis: what Upstash would bill.
        bytes_received: Bytes of HTTP that came in, heads included.
        bytes_sent: Bytes of HTTP that went out, heads included.
    """

    requests: int = 0
    commands: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class Api:
    """Answers the requests of one endpoint. May be called from many threads."""

    def __init__(
        self, backend: Backend, *, token: str, read_only_token: str, max_request_bytes: int
    ) -> None:
        """Make one.

        Args:
            backend: What runs the commands.
            token: May do everything.
            read_only_token: May only read.
            max_request_bytes: Size limit of a request's body, and of what one command answers.
        """
        self.max_request_bytes = max_request_bytes
        self._backend = backend
        self._token = token.encode()
        self._read_only_token = read_only_token.encode()
        self._sync = itertools.count(1)
        self._lock = threading.Lock()
        self._usage = Usage()

    def usage(self) -> Usage:
        """What has been asked so far. Who has an answer finds it counted."""
        with self._lock:
            return self._usage

    def respond(self, request: Request) -> bytes:
        """The whole answer to a request."""
        status, content_type, headers = HTTPStatus.OK, "application/json", self._headers()
        try:
            status, content_type, body = self._answer(request)
        except Refusal as refusal:
            status, body = refusal.status, _error(refusal.text)
            if status == HTTPStatus.METHOD_NOT_ALLOWED:
                headers["Allow"] = ", ".join(_METHODS)
        except Exception:
            logger.exception("the embedded endpoint failed to answer a request")
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, _error("ERR internal error")
        answer = response(
            status,
            body,
            headers,
            content_type=content_type,
            keep_alive=request.keep_alive,
            send_body=request.method != "HEAD",
        )
        self._count(requests=1, bytes_received=request.bytes_received, bytes_sent=len(answer))
        return answer

    def respond_to_garbage(self, status: HTTPStatus, text: str) -> bytes:
        """The whole answer to what is no request."""
        answer = response(status, _error(text), self._headers(), keep_alive=False)
        self._count(requests=1, bytes_sent=len(answer))
        return answer

    def _answer(self, request: Request) -> tuple[HTTPStatus, str, bytes]:
        if request.method not in _METHODS:
            raise Refusal("ERR method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
        read_only = self._is_read_only(request)
        base64 = request.headers.get("Upstash-Encoding") == "base64"
        wanted = request.headers.get("Upstash-Response-Format", "json")
        if wanted not in ("json", "resp2") or (base64 and wanted == "resp2"):
            raise Refusal("ERR unsupported response format")
        if request.body is None:
            raise Refusal(too_large(self.max_request_bytes, request.body_bytes))
        form, commands = read_commands(request.target, request.body)
        if form == "multi-exec":
            replies = self._transaction(commands, read_only=read_only)
        else:
            replies = self._pipeline(commands, read_only=read_only)
        replies = [self._within_limit(reply) for reply in replies]
        failed = form == "command" and isinstance(replies[0], Failure)
        status = HTTPStatus.BAD_REQUEST if failed else HTTPStatus.OK
        # "This option is not applicable to /multi-exec"
        if wanted == "resp2" and form != "multi-exec":
            return status, "application/octet-stream", b"".join(map(to_resp2, replies))
        body = to_json(replies, single=form == "command", base64=base64)
        return status, "application/json", body

    def _is_read_only(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        token = given.strip().encode("latin-1") if scheme.lower() == "bearer" else None
        if token is None:
            token = token_in_query(request.target) or b""
        if compare_digest(token, self._token):
            return False
        if compare_digest(token, self._read_only_token):
            return True
        raise Refusal("WRONGPASS invalid or missing auth token", HTTPStatus.UNAUTHORIZED)

    def _pipeline(self, commands: list[Command], *, read_only: bool) -> list[Reply]:
        refusals = [why_refused(command, read_only=read_only) for command in commands]
        allowed = [
            command for command, refusal in zip(commands, refusals, strict=True) if refusal is None
        ]
        replies = iter(self._run(allowed, atomic=False))
        return [next(replies) if refusal is None else Failure(refusal) for refusal in refusals]

    def _transaction(self, commands: list[Command], *, read_only: bool) -> list[Reply]:
        for command in commands:
            refusal = why_refused(command, read_only=read_only)
            if refusal is not None:
                raise Refusal(refusal)
        return self._run(commands, atomic=True)

    def _run(self, commands: list[Command], *, atomic: bool) -> list[Reply]:
        if not commands:
            return []
        self._count(commands=len(commands))
        return self._backend.run(commands, atomic=atomic)

    def _within_limit(self, reply: Reply) -> Reply:
        actual = size(reply)
        if actual > self.max_request_bytes:
            return Failure(too_large(self.max_request_bytes, actual))
        return reply

    def _headers(self) -> dict[str, str]:
        return {"Upstash-Sync-Token": f"{next(self._sync):012d}"}

    def _count(
        self,
        *,
        requests: int = 0,
        commands: int = 0,
        bytes_received: int = 0,
        bytes_sent: int = 0,
    ) -> None:
        with self._lock:
            was = self._usage
            self._usage = Usage(
                was.requests + requests,
                was.commands + commands,
                was.bytes_received + bytes_received,
                was.bytes_sent + bytes_sent,
            )


def _error(text: str) -> bytes:
    return to_json([Failure(text)], single=True, base64=False)
