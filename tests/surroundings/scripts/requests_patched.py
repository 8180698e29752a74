"""`Session.send`, `.get_adapter`, `HTTPAdapter.send` replaced: sees each; works afterwards"""

import json
from typing import Any
from unittest.mock import patch

from probes import ORDER, replied, saves, was_only_mocked
from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter, HTTPAdapter

from upstash_state import redis_save_order, reset_client

seen: list[list[str]] = []


def send(_: object, request: PreparedRequest, **options: Any) -> Response:
    command = json.loads(request.body or "")
    seen.append(command)
    response = Response()
    response.status_code = 200
    response._content = json.dumps(replied(command)).encode()
    response.request = request
    return response


class Canned(BaseAdapter):
    send = send

    def close(self) -> None:
        pass


for used_before in False, True:
    for target, name, replacement in (
        (Session, "send", send),
        (Session, "get_adapter", lambda self, url: Canned()),
        (HTTPAdapter, "send", send),
    ):
        reset_client()
        if used_before:
            saves()
        seen.clear()
        with patch.object(target, name, replacement):
            assert redis_save_order("mocked", ORDER), f"{name}: not saved"
        assert seen[-1][:2] == ["SET", "order:mocked"], name
        was_only_mocked()
