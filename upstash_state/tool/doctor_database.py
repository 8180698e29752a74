"""The doctor's questions to the database: what the token may do, how fast it is, how full."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from statistics import median
from time import perf_counter
from typing import Any

from ..client import UpstashRedis
from ..errors import (
    AnswerError,
    AuthenticationError,
    CapacityExceededError,
    EndpointTimeoutError,
    NoPermissionError,
    QuotaExceededError,
    ResponseError,
    UnavailableError,
    UpstashError,
)
from ..settings import WHERE, Settings
from ..store import OrderStore
from .doctor_finding import Finding, Wrong, ok, warning
from .terminal import orders

# Not the app's prefix: a restore under way must not find the probe.
PREFIX = "upstash-state-doctor:"
PROBE_TTL = 60
PINGS = 5
# Half of what people notice as a delay; the app waits so long at every save.
SLOW = 0.25
NEARLY_FULL = 0.8

_ADVICE: tuple[tuple[type[UpstashError], str], ...] = (
    (
        AuthenticationError,
        f"the token must be that of this URL's database, and is not its password: {WHERE}",
    ),
    (NoPermissionError, f"this is the read-only token: {WHERE}, the one without Read-Only"),
    (
        QuotaExceededError,
        "wait for the new day or month, or choose a larger plan on console.upstash.com; "
        "UPSTASH_STATE_SKIP_UNCHANGED saves commands",
    ),
    (
        CapacityExceededError,
        "delete what is not needed (upstash-state delete --older-than 7d), "
        "or choose a larger plan on console.upstash.com",
    ),
    (
        AnswerError,
        "something else answers there, such as a proxy's or a login page: check the URL, and "
        "whether this network lets HTTPS to it through",
    ),
    (
        EndpointTimeoutError,
        "try again; if it stays, the network is slow or swallows the request: "
        "UPSTASH_STATE_TIMEOUT gives it more seconds",
    ),
    (
        UnavailableError,
        "try again later (status.upstash.com says whether it is known); if it stays, check the "
        "URL, https:// or http:// included, and the proxy if there is one",
    ),
    (ResponseError, "look the text up at upstash.com/docs/redis/troubleshooting"),
)


class Database:
    """Asks a database. Every question may raise `Wrong`.

    Args:
        settings: Where it is, and the app's prefix.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = UpstashRedis(
            settings.url,
            settings.token,
            timeout=settings.timeout,
            allow_http=settings.allow_http,
        )
        self._store = OrderStore(self._client, prefix=settings.prefix, ttl=settings.ttl)
        self._probes = OrderStore(self._client, prefix=PREFIX, ttl=PROBE_TTL)
        self._probe_id = secrets.token_hex(8)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def token(self) -> Iterator[Finding]:
        """Whether the endpoint is one, and takes the token."""
        _asked(self._client.ping)
        yield ok("accepted")

    def writing(self) -> Iterator[Finding]:
        """Whether the token may write: a DEL of what is not there changes nothing."""
        _asked(lambda: self._client.delete(PREFIX + self._probe_id))
        yield ok("allowed")

    def scanning(self) -> Iterator[Finding]:
        """Whether the token may walk over the keys, without which there is no restore."""
        _asked(lambda: self._client.scan(count=1))
        yield ok("allowed")

    def speed(self) -> Iterator[Finding]:
        """How long a round trip takes."""
        took = []
        for _ in range(PINGS):
            begin = perf_counter()
            _asked(self._client.ping)
            took.append(perf_counter() - begin)
        found = (
            f"{median(took) * 1000:.0f} ms, the median of {PINGS} "
            f"({min(took) * 1000:.0f} to {max(took) * 1000:.0f})"
        )
        if median(took) < SLOW:
            yield ok(found)
        else:
            yield warning(found, "every save waits so long: is the database in a region near by?")

    def fullness(self) -> Iterator[Finding]:
        """What the server says of its memory. Upstash documents INFO, but not which fields."""
        try:
            fields = _fields(self._client.execute_command("INFO"))
        except ResponseError:
            fields = {}
        used, most = _number(fields, "used_memory"), _number(fields, "maxmemory")
        policy, evicted = fields.get("maxmemory_policy", ""), _number(fields, "evicted_keys")
        if not used and not policy:
            yield ok("the server does not tell")
            return
        found = f"{used / 1e6:,.1f} MB used" + (f" of {most / 1e6:,.1f} MB" if most else "")
        if most and used > most * NEARLY_FULL:
            yield warning(found, "nearly full: delete what is not needed, or choose a larger plan")
        elif used:
            yield ok(found)
        advice = "switch eviction off in the database's configuration on console.upstash.com"
        if evicted:
            yield warning(f"{evicted:,} keys were evicted to make room", advice)
        elif policy not in ("", "noeviction"):
            yield warning(
                f"eviction is on ({policy}): once full, it drops orders before they expire", advice
            )

    def count(self) -> Iterator[Finding]:
        """How many orders there are."""
        number = _asked(self._store.count)
        yield ok(f"{orders(number)} with keys {self._store.prefix}*")

    def probe(self) -> Iterator[Finding]:
        """Whether an order that is saved comes back, expires and can be deleted."""
        order = {"name": "probe", "created_at": datetime.now(timezone.utc)}
        try:
            _asked(lambda: self._probes.save(self._probe_id, order))
            _same("it reads", order, _asked(lambda: self._probes.get(self._probe_id)))
            ttl = _asked(lambda: self._client.ttl(PREFIX + self._probe_id))
            _same("it expires in 1 to 60 s", True, 0 < ttl <= PROBE_TTL)
        except BaseException:
            with suppress(UpstashError):
                self._probes.delete(self._probe_id)
            raise
        _asked(lambda: self._probes.delete(self._probe_id))
        _same("after deletion it reads", None, _asked(lambda: self._probes.get(self._probe_id)))
        yield ok("saved, read, expires, deleted")


def _asked(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except UpstashError as error:
        advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "")
        raise Wrong(str(error), advice) from None


def _same(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise Wrong(
            f"a probe order was saved; {what}: {found!r} instead of {expected!r}",
            "the server does not work as Redis does: is it Upstash's?",
        )


def _fields(info: object) -> dict[str, str]:
    """The fields of INFO's report: lines of `name:value`, headings and empty lines between."""
    if not isinstance(info, str):
        return {}
    pairs = (line.partition(":") for line in info.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}


def _number(fields: dict[str, str], name: str) -> int:
    value = fields.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
