"""`Mocker`, before the first use and after: sees each request, or lets it through"""

import requests_mock
from probes import ORDER, URL, replied, saves, was_only_mocked

from upstash_state import redis_save_order, reset_client

for used_before in False, True:
    reset_client()
    if used_before:
        saves()
    with requests_mock.Mocker() as mock:
        mock.post(requests_mock.ANY, json=lambda request, context: replied(request.json()))
        assert redis_save_order("mocked", ORDER), "not saved"
        assert mock.last_request.json()[:2] == ["SET", "order:mocked"]
        assert mock.last_request.url == URL + "/"
    was_only_mocked()
    with requests_mock.Mocker(real_http=True):
        saves()
