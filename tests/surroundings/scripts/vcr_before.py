"""imported before the package: records and replays over https; works afterwards, also in between"""

import os
import tempfile

import vcr
from probes import ORDER, saves

from upstash_state import redis_get_order, redis_save_order, reset_client

os.chdir(tempfile.mkdtemp())
for used_before in False, True:
    reset_client()
    if used_before:
        saves()
    file = f"{used_before}.yaml"
    with vcr.use_cassette(file) as cassette:
        assert redis_save_order("recorded", ORDER), "not saved while recording"
        assert redis_get_order("recorded") == ORDER
        assert len(cassette) >= 2, f"{len(cassette)} recorded"
    saves()
    with open(file) as recorded:
        assert "order:recorded" in recorded.read()
    reset_client()
    with vcr.use_cassette(file, record_mode="none") as cassette:
        assert redis_save_order("recorded", ORDER), "not replayed"
        assert redis_get_order("recorded") == ORDER
        assert cassette.all_played, f"{cassette.play_count} of {len(cassette)} replayed"
    saves()
