"""`install_cache()`: what was saved is read, not what was cached; the time limit holds"""

import requests_cache
from probes import ORDER, saves, time_limit_holds

from upstash_state import redis_get_order, redis_save_order, reset_client

for used_before in False, True:
    reset_client()
    if used_before:
        saves()
    requests_cache.install_cache(backend="memory")
    try:
        saves()
        for status in "new", "paid", "new", "paid":
            assert redis_save_order("5866", {**ORDER, "status": status})
            assert redis_get_order("5866") == {**ORDER, "status": status}, "from the cache"
        time_limit_holds()
    finally:
        requests_cache.uninstall_cache()
    saves()
