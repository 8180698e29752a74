"""The doctor's questions to the database: what the token may do, how fast it is, how full."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

from ...client import UpstashRedis
from ...errors import ResponseError, UpstashError
from ...settings import Settings, proxy_of
from ...store import OrderStore
from ..terminal import orders
from .finding import Finding, Wrong, ok, warning

# Not the app's prefix: a restore under way must not find the probe.
PREFIX = "upstash-state-doctor:"
PROBE_TTL = 60
PINGS = 5
# asyncio's own measure of what is slow for an event loop (loop.slow_callback_duration).
SLOW = 0.1
NEARLY_FULL = 0.8


class Database:
    """Asks a database. Every question may raise `Wrong`, or the error that it failed with.

    Args:
        client: The database.
        settings: The app's, for its orders' prefix.
    """

    def __init__(self, client: UpstashRedis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._probes = OrderStore(client, prefix=PREFIX, ttl=PROBE_TTL, catch_up=False)
        self._probe_id = secrets.token_hex(8)

    def questions(self) -> dict[str, Callable[[], Iterator[Finding]]]:
        """The questions by name, in the order in which one thing needs another."""
        client, key = self._client, PREFIX + self._probe_id
        pipeline = client.pipeline(transaction=False).ping().ping()
        return {
            "endpoint": self.endpoint,
            "token": lambda: _works(client.ping, "accepted"),
            # A DEL of what is not there changes nothing.
            "writing": lambda: _works(lambda: client.delete(key), "allowed"),
            # Without SCAN there is no restore.
            "SCAN": lambda: _works(lambda: client.scan(count=1), "allowed"),
            "pipeline": lambda: _works(pipeline.execute, "works"),
            "transaction": self.transaction,
            "round trip": self.speed,
            "memory": self.fullness,
            "orders": self.count,
            "probe order": self.probe,
        }

    def endpoint(self) -> Iterator[Finding]:
        """Whether something answers as Upstash's REST API does, be it with a refusal."""
        with suppress(ResponseError):
            self._client.ping()
        proxy = proxy_of(self._client.url)
        yield ok("answers" + (f", through the proxy {urlsplit(proxy).hostname}" if proxy else ""))

    def transaction(self) -> Iterator[Finding]:
        """Whether transactions work. The functions do without."""
        try:
            self._client.pipeline(transaction=True).ping().ping().execute()
            yield ok("works")
        except UpstashError as error:
            advice = "only your own client.pipeline() needs it: use pipeline(transaction=False)"
            yield warning(f"does not work: {error}", advice)

    def speed(self) -> Iterator[Finding]:
        """How long a round trip takes."""
        took = []
        for _ in range(PINGS):
            begin = perf_counter()
            self._client.ping()
            took.append(perf_counter() - begin)
        low, middle, high = (f"{1000 * f(took):.0f}" for f in (min, median, max))
        found = f"{middle} ms, the median of {PINGS} ({low} to {high})"
        if median(took) < SLOW or self._settings.background:
            yield ok(found)
        else:
            yield warning(
                found,
                "every save waits so long: is the database in a region near by? On an event loop, "
                "use upstash_state.aio, or save in the background: UPSTASH_STATE_BACKGROUND=1",
            )

    def fullness(self) -> Iterator[Finding]:
        """What the server says of its memory. Upstash documents INFO, but not which fields."""
        report = ""
        with suppress(UpstashError):
            report = str(self._client.execute_command("INFO"))
        numbers = dict(re.findall(r"^(\w+):([0-9]{1,19})\s*$", report, re.M))
        used, most = int(numbers.get("used_memory", 0)), int(numbers.get("maxmemory", 0))
        evicted = int(numbers.get("evicted_keys", 0))
        policy = re.search(r"^maxmemory_policy:(?!noeviction)([a-z-]+)", report, re.M)
        found = f"{used / 1e6:,.1f} MB used" + (f" of {most / 1e6:,.1f} MB" if most else "")
        if most and used > most * NEARLY_FULL:
            yield warning(found, "nearly full: delete what is not needed, or choose a larger plan")
        else:
            yield ok(found if used else "the server does not tell how much is used")
        advice = "switch eviction off in the database's configuration on console.upstash.com"
        if evicted:
            yield warning(f"{evicted:,} keys were evicted to make room", advice)
        elif policy:
            found = f"eviction is on ({policy[1]}): once full, it drops orders before they expire"
            yield warning(found, advice)

    def count(self) -> Iterator[Finding]:
        """How many orders there are."""
        store = OrderStore(self._client, prefix=self._settings.prefix)
        yield ok(f"{orders(store.count())} with keys {store.prefix}*")

    def probe(self) -> Iterator[Finding]:
        """Whether an order that is saved comes back, expires and can be deleted."""
        order = {"name": "probe", "created_at": datetime.now(timezone.utc)}
        key = PREFIX + self._probe_id
        try:
            self._probes.save(self._probe_id, order)
            _same("it reads", order, self._probes.get(self._probe_id))
            _same("MGET finds it", True, self._client.mget(key) != [None])
            _same("it expires in 1 to 60 s", True, 0 < self._client.ttl(key) <= PROBE_TTL)
        except BaseException:
            with suppress(UpstashError):
                self._probes.delete(self._probe_id)
            raise
        self._probes.delete(self._probe_id)
        _same("after deletion it reads", None, self._probes.get(self._probe_id))
        yield ok("saved, read, expires, deleted")


def _works(question: Callable[[], object], found: str) -> Iterator[Finding]:
    question()
    yield ok(found)


def _same(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise Wrong(
            f"a probe order was saved; {what}: {found!r} instead of {expected!r}",
            "the server does not work as Redis does: is it Upstash's?",
        )
