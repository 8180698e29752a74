"""`RequestsMock`, before the first use and after: sees each request, or lets it through"""

import json

import responses
from probes import ORDER, URL, replied, saves, was_only_mocked

from upstash_state import redis_save_order, reset_client

for used_before in False, True:
    reset_client()
    if used_before:
        saves()
    with responses.RequestsMock() as mock:
        mock.add_callback(
            "POST", URL, lambda request: (200, {}, json.dumps(replied(json.loads(request.body))))
        )
        assert redis_save_order("mocked", ORDER), "not saved"
        assert json.loads(mock.calls[-1].request.body)[:2] == ["SET", "order:mocked"]
    was_only_mocked()
    with responses.RequestsMock() as mock:
        mock.add_passthru(URL)
        saves()
