"""A simulated month of an app: the commands that Upstash bills.

    python -m tests.benchmarks.month

The app saves all its orders at each change of one, as users of redis_state.py do. It restarts
twice a day, and a health check runs once a minute. The clock is passed in, and the endpoint is in
memory, so thirty days take some minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from tests.simulation.world import Alarm
from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint
from upstash_state import OrderStore, UpstashRedis, reset_client
from upstash_state.transport import intercepting

#: Commands a month of the free plan (upstash.com/docs/redis/overall/billing).
FREE = 500_000
GOAL = 12_000
DAYS = 30
#: The largest UPSTASH_STATE_SKIP_UNCHANGED, half of the TTL.
SKIP = 302_400
#: Seconds for which the changed health check uses an old answer.
MAX_AGE = 600
DAY = 86_400
MINUTE = 60
#: When the app restarts, in seconds of the day.
RESTARTS = (4 * 3600, 16 * 3600)
#: When the first order arrives, in seconds of the day, and for how long others follow.
OPENS, OPEN_FOR = 10 * 3600, 12 * 3600


class App(NamedTuple):
    """The events of an app's month.

    Attributes:
        orders: New orders a day.
        changes: Changes of each, five minutes apart.
        kept: Days after which the app deletes an order; None for never.
        days: Days of the simulation.
    """

    orders: int = 15
    changes: int = 12
    kept: int | None = None
    days: int = DAYS


class Way(NamedTuple):
    """How the app uses the backup.

    Attributes:
        name: Its name in the table.
        skip: UPSTASH_STATE_SKIP_UNCHANGED.
        background: Whether UPSTASH_STATE_BACKGROUND is set.
        at_once: Whether the app calls `redis_save_orders`, not `redis_save_order` for each.
        max_age: The argument of the health check; None if it counts the orders.
    """

    name: str
    skip: int = 0
    background: bool = False
    at_once: bool = False
    max_age: int | None = None


ORIGINAL = Way("redis_state: SET and EXPIRE for each order, KEYS")
SWAPPED = Way("upstash_state instead, nothing else changed")
SETTINGS = Way(f"`SKIP_UNCHANGED={SKIP}`, `BACKGROUND=1`", SKIP, True)
CHECKED = Way(f"the same, and `health(max_age={MAX_AGE})`", SKIP, True, max_age=MAX_AGE)
WAYS = (
    ORIGINAL,
    SWAPPED,
    Way(f"`SKIP_UNCHANGED={SKIP}`", SKIP),
    SETTINGS,
    CHECKED,
    Way("`redis_save_orders(STATE)`, no settings", at_once=True),
    Way(f"the same, and `health(max_age={MAX_AGE})`", at_once=True, max_age=MAX_AGE),
)


def commands(app: App, way: Way) -> int:
    """Return the number of billed commands.

    Raises:
        AssertionError: At the end, Redis does not hold the orders of the app.
    """
    clock = Clock(datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp())
    redis = MemoryEndpoint(clock)
    begin = clock.now
    with intercepting(redis, simulated=True):
        run = _Original(app) if way is ORIGINAL else _Run(app, way, clock)
        for second, event in sorted(_events(app), key=lambda moment: moment[0]):
            clock.now = begin + second
            event(run)
            run.billed += len(redis.commands)
            redis.commands.clear()
        run.check()
        reset_client(flush=False)
    return run.billed


def _events(app: App) -> Iterator[tuple[float, Callable[[Any], None]]]:
    for day in range(app.days):
        for number in range(app.orders):
            comes = day * DAY + OPENS + number * OPEN_FOR / app.orders
            for change in range(app.changes):
                order_id = str(day * app.orders + number)
                moment = comes + change * 5 * MINUTE
                yield moment, lambda run, i=order_id, n=change: run.change(i, n)
        for restart in RESTARTS:
            yield day * DAY + restart, lambda run: run.restart()
        if app.kept is not None:
            yield day * DAY + 3 * 3600, lambda run: run.clean_up()
        for check in range(0, DAY, MINUTE):
            yield day * DAY + check, lambda run: run.asked()


class _Run:
    """The app with this package."""

    def __init__(self, app: App, way: Way, clock: Clock) -> None:
        self._app, self._way, self._clock = app, way, clock
        self._client = UpstashRedis("http://127.0.0.1:1", "token")
        self.billed = 0
        self.restart()

    def restart(self) -> None:
        reset_client()
        self._store = OrderStore(
            self._client,
            skip_unchanged=self._way.skip,
            background=1.0 if self._way.background else 0,
            clock=self._clock,
        )
        if self._way.background:
            # `_worker` sends instead of a thread.
            self._store._delivery._worker = Alarm()  # type: ignore[assignment]
        self.state = self._store.get_all()

    def change(self, order_id: str, number: int) -> None:
        created = datetime.fromtimestamp(self._clock.now, timezone.utc)
        order = self.state.setdefault(order_id, {"created_at": created})
        self.state[order_id] = {**order, "changes": number}
        if self._way.at_once:
            self._store.save_many(self.state)
        else:
            for each, order in self.state.items():
                self._store.save(each, order)
        self._worker()

    def asked(self) -> None:
        if self._way.max_age is None:
            assert self._store.count() == len(self.state)
        else:
            assert self._store.health(max_age=self._way.max_age).ok

    def clean_up(self) -> None:
        assert self._app.kept is not None
        now = datetime.fromtimestamp(self._clock.now, timezone.utc)
        for order_id in self._store.delete_older_than(now - timedelta(days=self._app.kept)):
            del self.state[order_id]
        self._worker()

    def check(self) -> None:
        assert self._store.get_all() == self.state

    def _worker(self) -> None:
        if self._way.background:
            assert self._store.flush()


class _Original:
    """The app with redis_state.py, whose commands do not depend on answers, so they are counted."""

    def __init__(self, app: App) -> None:
        self._orders: dict[str, int] = {}
        self._app = app
        self.billed = 0

    def restart(self) -> None:
        # PING, KEYS, and a GET for each order.
        self.billed += 2 + len(self._orders)

    def change(self, order_id: str, number: int) -> None:
        self._orders[order_id] = number
        self.billed += 2 * len(self._orders)

    def asked(self) -> None:
        self.billed += 1

    def clean_up(self) -> None:
        assert self._app.kept is not None
        held = self._app.kept * self._app.orders
        # KEYS, a GET for each order, and a DEL for each old one.
        self.billed += 1 + len(self._orders) + max(0, len(self._orders) - held)
        self._orders = dict(list(self._orders.items())[-held:])

    def check(self) -> None:
        pass


def table(apps: dict[str, App], ways: tuple[Way, ...] = WAYS) -> str:
    """Return the commands of each app and way, as a table in Markdown."""
    rows = [
        f"| commands a month | {' | '.join(apps)} | of the free plan |",
        f"| --- | {'---: | ' * len(apps)}---: |",
    ]
    for way in ways:
        billed = [commands(app, way) for app in apps.values()]
        cells = " | ".join(f"{number:,}" for number in billed)
        rows.append(f"| {way.name} | {cells} | {max(billed) / FREE:.1%} |")
    return "\n".join(rows)


APPS = {"never prunes": App(), "keeps seven days": App(kept=7)}

if __name__ == "__main__":
    print(table(APPS))
