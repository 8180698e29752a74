"""time frozen, moved on by a year, back by a day, and let go: saves each time"""

from datetime import timedelta

from freezegun import freeze_time
from probes import saves

saves()
with freeze_time("2026-01-01") as frozen:
    saves()
    frozen.tick(timedelta(days=366))
    saves()
    frozen.tick(timedelta(days=-1))
    saves()
saves()
with freeze_time("2031-01-01", tick=True):
    from upstash_state import reset_client

    reset_client()
    saves()
saves()
