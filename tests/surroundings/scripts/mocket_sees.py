"""`Mocketizer(strict_mode=True)`: sees each request over https; works afterwards"""

import json

from mocket import Mocket, Mocketizer
from mocket.mocks.mockhttp import Entry
from probes import ORDER, URL, saves, was_only_mocked

from upstash_state import UpstashRedis, reset_client

for used_before in False, True:
    reset_client()
    if used_before:
        saves()
    with Mocketizer(strict_mode=True):
        Entry.single_register(Entry.POST, URL + "/", body='{"result":"OK"}')
        with UpstashRedis(URL, "token") as client:
            assert client.set("order:mocked", json.dumps(ORDER))
        assert json.loads(Mocket.last_request().body)[:2] == ["SET", "order:mocked"]
    was_only_mocked()
