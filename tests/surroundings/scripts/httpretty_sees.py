"""`enabled(allow_net_connect=False)`: sees each request over https; works afterwards"""

import json

import httpretty
from probes import ORDER, URL, replied, saves, was_only_mocked

from upstash_state import redis_save_order, reset_client

for used_before in False, True:
    reset_client()
    if used_before:
        saves()
        reset_client()
    with httpretty.enabled(allow_net_connect=False):
        httpretty.register_uri(
            "POST",
            URL + "/",
            lambda request, url, headers: [
                200,
                headers,
                json.dumps(replied(json.loads(request.body))),
            ],
        )
        assert redis_save_order("mocked", ORDER), "not saved"
        assert json.loads(httpretty.last_request().body)[:2] == ["SET", "order:mocked"]
    reset_client()
    was_only_mocked()
