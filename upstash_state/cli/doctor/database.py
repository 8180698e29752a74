"""The doctor's questions to the database: what the token may do, how fast it is, how full it is."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

from ... import OrderStore, ResponseError, UpstashError, UpstashRedis
from ...logs import plural
from ...settings import Settings, proxy_of
from ..meter import metered
from .advice import LATER, LIMITED, Finding

# Not the app's prefix: a restore must not find the probe.
PREFIX = "upstash-state-doctor:"
PROBE_TTL = 60
PINGS = 5
# asyncio calls a callback slow if it blocks the event loop for this long
# (loop.slow_callback_duration).
SLOW = 0.1
NEARLY_FULL = 0.8


def questions(client: UpstashRedis, settings: Settings) -> dict[str, Iterator[Finding]]:
    """Return the questions by name, in the order in which they depend on each other.

    Each is asked when its findings are iterated, which may raise an UpstashError.

    Args:
        client: The client of the database.
        settings: The app's settings.
    """
    probes = OrderStore(client, prefix=PREFIX, ttl=PROBE_TTL, catch_up=False)
    probe_id = secrets.token_hex(8)
    pipeline = client.pipeline(transaction=False).ping().ping()
    return {
        "endpoint": _endpoint(client),
        "token": _works(client.ping, "accepted"),
        # A DEL of a key that does not exist changes nothing.
        "writing": _works(lambda: client.delete(probes.key(probe_id)), "allowed"),
        # A restore needs SCAN.
        "SCAN": _works(lambda: client.scan(count=1), "allowed"),
        "pipeline": _works(pipeline.execute, "works"),
        "transaction": _transaction(client),
        "round trip": _speed(client, settings),
        "memory": _fullness(client),
        "orders": _count(OrderStore(client, prefix=settings.prefix)),
        "probe order": _probe(probes, probe_id),
    }


def _works(question: Callable[[], object], found: str) -> Iterator[Finding]:
    question()
    yield Finding("ok", found)


def _endpoint(client: UpstashRedis) -> Iterator[Finding]:
    with suppress(ResponseError):
        client.ping()
    proxy = urlsplit(proxy_of(client.url) or "").hostname
    yield Finding("ok", f"answers, through the proxy {proxy}" if proxy else "answers")


def _transaction(client: UpstashRedis) -> Iterator[Finding]:
    try:
        client.pipeline(transaction=True).ping().ping().execute()
        yield Finding("ok", "works")
    except UpstashError as error:
        # The package's functions do not need transactions.
        advice = "only your own client.pipeline() needs it: use pipeline(transaction=False)"
        yield Finding("warning", f"does not work: {error}", advice)


def _speed(client: UpstashRedis, settings: Settings) -> Iterator[Finding]:
    took = []
    with metered() as cost:
        for _ in range(PINGS):
            begin = perf_counter()
            client.ping()
            took.append(perf_counter() - begin)
    low, middle, high = (f"{1000 * f(took):.0f}" for f in (min, median, max))
    found = f"{middle} ms, the median of {PINGS} ({low} to {high})"
    if repeated := sorted(set(cost.statuses) - {200}):
        # The times include the pauses before the retries.
        statuses = ", ".join(map(str, repeated))
        found = f"not measured: requests were repeated after HTTP status {statuses}"
        yield Finding("warning", found, LIMITED if 429 in repeated else LATER)
    elif median(took) < SLOW or settings.background:
        yield Finding("ok", found)
    else:
        advice = (
            "every save takes this long: is the database in a nearby region? On an event loop, use "
            "upstash_state.aio, or save in the background: UPSTASH_STATE_BACKGROUND=1"
        )
        yield Finding("warning", found, advice)


def _fullness(client: UpstashRedis) -> Iterator[Finding]:
    # Upstash documents INFO, but not its fields.
    report = ""
    with suppress(UpstashError):
        report = str(client.execute_command("INFO"))
    numbers = dict(re.findall(r"^(\w+):([0-9]{1,19})\s*$", report, re.M))
    used, most = int(numbers.get("used_memory", 0)), int(numbers.get("maxmemory", 0))
    found = f"{used / 1e6:,.1f} MB used" + (f" of {most / 1e6:,.1f} MB" if most else "")
    if most and used > most * NEARLY_FULL:
        yield Finding("warning", found, "nearly full: delete orders, or choose a larger plan")
    else:
        yield Finding("ok", found if used else "the server does not say how much is used")
    advice = "switch eviction off in the database's configuration on console.upstash.com"
    if evicted := int(numbers.get("evicted_keys", 0)):
        yield Finding("warning", f"evicted to make room: {plural(evicted, 'key')}", advice)
    elif policy := re.search(r"^maxmemory_policy:(?!noeviction)([a-z-]+)", report, re.M):
        found = f"eviction is on ({policy[1]}): once full, it drops orders before they expire"
        yield Finding("warning", found, advice)


def _count(store: OrderStore) -> Iterator[Finding]:
    yield Finding("ok", f"{plural(store.count())} with keys {store.prefix}*")


def _probe(probes: OrderStore, probe_id: str) -> Iterator[Finding]:
    key, order = probes.key(probe_id), {"name": "probe", "created_at": datetime.now(timezone.utc)}
    tried: list[tuple[str, object, object]] = []
    try:
        probes.save(probe_id, order)
        in_time = 0 < probes.client.ttl(key) <= PROBE_TTL
        tried.append(("it reads", probes.get(probe_id), order))
        tried.append(("MGET finds it", probes.client.mget(key) != [None], True))
        tried.append((f"it expires in 1 to {PROBE_TTL} s", in_time, True))
    finally:
        with suppress(UpstashError):
            probes.delete(probe_id)
    tried.append(("after deletion it reads", probes.get(probe_id), None))
    for what, found, expected in tried:
        if found != expected:
            found = f"a probe order was saved; {what}: {found!r} instead of {expected!r}"
            yield Finding("wrong", found, "the server does not work like Redis: is it Upstash's?")
            return
    yield Finding("ok", "saved, read, expires, deleted")
