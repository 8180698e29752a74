"""Where recordings meet HTTP: this package's requests, taken with `responses`.

What is patched is the adapter's own class. So a mock of `HTTPAdapter.send`, which the app's tests
may use for other services, neither sees these requests nor is disturbed by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

try:
    import responses
except ImportError as error:
    raise ImportError("recordings need the package responses: pip install responses") from error

from ..settings import Secret, is_loopback
from ..transport import COMMAND, PIPELINE, TRANSACTION
from ..transport.connections import Adapter
from .exchange import Exchange, Request

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

    Answer = tuple[int, Mapping[str, str], bytes]
    Answerer = Callable[[Request], Exchange]
    Recorder = Callable[[Request, frozenset[Secret], Callable[[], Answer]], Exchange]

TARGET = f"{Adapter.__module__}.{Adapter.__qualname__}.send"
SYNC_TOKEN = "Upstash-Sync-Token"


def replaying(answer: Answerer) -> responses.RequestsMock:
    """A mock that gives every request to `answer`. Nothing is sent."""

    def callback(request: PreparedRequest) -> Answer:
        exchange = answer(_request_of(request))
        return exchange.status, _headers(exchange), exchange.body

    mock = responses.RequestsMock(assert_all_requests_are_fired=False, target=TARGET)
    mock.add_callback("POST", re.compile(""), callback, content_type=None)
    return mock


def observing(record: Recorder) -> responses.RequestsMock:
    """A mock that gives every request to `record`, with its secrets and a way to really send it."""
    # Whatever answers at this moment: the network, or a mock around this one.
    send = Adapter.send

    def take(adapter: Adapter, request: PreparedRequest, **kwargs: Any) -> Response:
        passed_on: dict[str, str] = {}

        def ask() -> Answer:
            response = send(adapter, request, **kwargs)
            if SYNC_TOKEN in response.headers:
                # Not recorded, but meanwhile the database is to show the client what it wrote.
                passed_on[SYNC_TOKEN] = response.headers[SYNC_TOKEN]
            return response.status_code, response.headers, response.content or b""

        exchange = record(_request_of(request), _secrets_of(request), ask)
        answer = responses.Response(
            "POST",
            str(request.url),
            exchange.body,
            status=exchange.status,
            headers={**_headers(exchange), **passed_on},
            content_type=None,
        )
        return adapter.build_response(request, answer.get_response(request))

    return responses.RequestsMock(
        assert_all_requests_are_fired=False,
        target=TARGET,
        passthru_prefixes=("http",),
        real_adapter_send=take,  # type: ignore[arg-type]
    )


def _request_of(request: PreparedRequest) -> Request:
    # By its end, since the endpoint's own address may have a path, which a recording must not hold.
    address = urlsplit(str(request.url)).path
    path = next((path for path in (PIPELINE, TRANSACTION) if address.endswith(path)), COMMAND)
    commands = json.loads(request.body or b"[]")
    return Request(path, tuple(map(tuple, [commands] if path == COMMAND else commands)))


def _secrets_of(request: PreparedRequest) -> frozenset[Secret]:
    host = Secret(urlsplit(str(request.url)).hostname or "")
    token = Secret(request.headers["Authorization"].removeprefix("Bearer "))
    return frozenset({token} if is_loopback(host) else {token, host})


def _headers(exchange: Exchange) -> dict[str, str]:
    return {"Content-Type": "application/json", **exchange.headers}
