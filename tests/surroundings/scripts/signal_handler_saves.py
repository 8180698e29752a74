"""a handler saves at 500 random moments of a save, and during a dripping call, whose limit holds"""

import faulthandler
import random
import signal
import time

from probes import DRIPPING, ORDER, URL, saves, time_limit_holds

from upstash_state import redis_get_order, redis_save_order, reset_client, time_budget

faulthandler.dump_traceback_later(80)
seed = random.randrange(1_000_000)
print(f"seed {seed}")
choose = random.Random(seed)

saved: list[bool] = []
signal.signal(signal.SIGALRM, lambda *_: saved.append(redis_save_order("signal", ORDER)))

saves()
begin = time.monotonic()
redis_save_order("5866", ORDER)
typical = time.monotonic() - begin
results: list[bool] = []
rounds = 0
while rounds < 500 and time.monotonic() - begin < 40:
    rounds += 1
    if rounds % 50 == 0:
        reset_client()
    signal.setitimer(signal.ITIMER_REAL, choose.uniform(1e-6, 1.5 * typical))
    results.append(redis_save_order("5866", {**ORDER, "round": rounds}))
    signal.setitimer(signal.ITIMER_REAL, 0)
assert len(saved) > rounds / 10, f"{len(saved)} signals in {rounds} rounds"
assert all(results), f"{results.count(False)} of {rounds} not saved"
assert all(saved), f"{saved.count(False)} of {len(saved)} not saved by the handler"
assert redis_get_order("5866") == {**ORDER, "round": rounds}

# Several times, since each save of the handler's might take the limit away.
for url in DRIPPING:
    saved.clear()
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.3)
    time_limit_holds([url])
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert saved, "no signal came"
    assert all(saved)

# A budget of the handler's ends with it, and so does the one that it interrupted.
signal.signal(signal.SIGALRM, lambda *_: nested())


def nested() -> None:
    with time_budget(0.001):
        redis_save_order("signal", ORDER)


with time_budget(30):
    signal.setitimer(signal.ITIMER_REAL, typical / 2)
    redis_save_order("5866", ORDER)
    time.sleep(0.2)
    assert redis_save_order("5866", ORDER)
saves()
assert URL
