"""A month's commands of an app that keeps a week's orders in memory, original against this.

python -m tests.benchmarks.month
"""

from __future__ import annotations

from typing import NamedTuple

#: Commands a month that cost nothing (upstash.com/docs/redis/overall/pricing).
FREE = 500_000
#: Seconds of a day; also UPSTASH_STATE_SKIP_UNCHANGED in the example.
DAY = 86_400
#: Up to which age, in seconds, a health check in the example takes a count from memory.
MAX_AGE = 300


class App(NamedTuple):
    """An app that backs all orders that it holds up whenever one of them changes.

    Attributes:
        orders: New orders a day.
        changes: Changes of each, all on its first day.
        kept: Days that an order is held in memory.
        checks: Health checks a day.
    """

    orders: int = 15
    changes: int = 12
    kept: int = 7
    checks: int = 24 * 60

    @property
    def saves(self) -> int:
        """How many times a day all orders are saved."""
        return self.orders * self.changes

    @property
    def held(self) -> int:
        """How many orders are in memory."""
        return self.orders * self.kept


class Commands(NamedTuple):
    """Commands that are billed."""

    saving: int
    checking: int

    @property
    def total(self) -> int:
        return self.saving + self.checking


def days(app: App, days: int = 30) -> dict[str, Commands]:
    """What so many days cost, by how the app does its backup."""
    one_by_one = app.saves * app.held
    # Every order that was not changed that day is sent once, a day after it was sent last.
    skipping = app.saves + app.held - app.orders
    counts = min(app.checks, DAY // MAX_AGE)
    by_way = {
        "redis_state: SET and EXPIRE for each order, KEYS": (2 * one_by_one, app.checks),
        "upstash_state instead, nothing else changed": (one_by_one, app.checks),
        f"redis_save_orders, UPSTASH_STATE_SKIP_UNCHANGED={DAY}": (skipping, app.checks),
        f"the same, and health(max_age={MAX_AGE})": (skipping, counts),
    }
    return {
        way: Commands(saving * days, checking * days) for way, (saving, checking) in by_way.items()
    }


def table(app: App) -> str:
    """The same as a table for the README."""
    rows = [
        "| a month | saving | health checks | commands | of the free plan |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {way} | {cost.saving:,} | {cost.checking:,} | {cost.total:,} "
        f"| {cost.total / FREE:.0%} |"
        for way, cost in days(app).items()
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(App()))
