"""the package first used inside a cassette, with the token filtered: records; saves after it"""

import os
import tempfile

import vcr
from probes import ORDER, TOKEN, saves, time_limit_holds

os.chdir(tempfile.mkdtemp())
with vcr.use_cassette("first.yaml", filter_headers=["authorization"]) as cassette:
    from upstash_state import redis_save_order

    assert redis_save_order("recorded", ORDER), "not saved while recording"
    assert len(cassette), "nothing recorded"
with open("first.yaml") as recorded:
    text = recorded.read()
assert "order:recorded" in text
assert TOKEN not in text
saves()
time_limit_holds()
saves()
