"""Fixtures of the tests of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import redis

from tests.support.cli import TOKEN, TTL, Gate, Tool, put, use
from upstash_state import serialize_order
from upstash_state.local import LocalEndpoint

#: The number of orders of `many`. The first 2,880 are an order every 59 s and so younger than two
#: days by some time; the others are an order every minute.
MANY, OLDER = 5000, 2880


def order(number: int, **more: object) -> dict[str, object]:
    return {"name": f"dishbee #{number}", "status": "new", "note": "ohne Zwiebeln 🧅", **more}


@pytest.fixture(autouse=True)
def _directory_without_a_file_of_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEndpoint]:
    """An empty endpoint in memory, which the environment names."""
    with LocalEndpoint(token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        yield endpoint


@pytest.fixture
def gate(few: LocalEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate in front of that endpoint, which the environment names."""
    with Gate(few.url).open() as gate:
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", gate.url)
        yield gate


@pytest.fixture
def three(few: LocalEndpoint) -> LocalEndpoint:
    """An endpoint with three orders."""
    put(few, "order:a", serialize_order({"name": "B", "status": "new"}), ttl=300)
    put(few, "order:b", serialize_order({"name": "C" * 50, "status": "done"}), ttl=200)
    put(few, "order:c", serialize_order({"name": "A", "status": "new"}), ttl=100)
    return few


@pytest.fixture
def now() -> datetime:
    """When the orders of `many` were saved."""
    return datetime.now(timezone.utc)


@pytest.fixture
def many(
    redis_url: str, tcp: redis.Redis, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalEndpoint]:
    """5,000 orders, every 50th without created_at, and a key of another app."""
    with tcp.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            age = timedelta(seconds=number * (60 if number >= OLDER else 59))
            created = {} if number % 50 == 0 else {"created_at": now - age}
            pipeline.set(f"order:{number}", serialize_order(order(number, **created)), ex=TTL)
        pipeline.set("other:1", "not an order")
        pipeline.execute()
    with LocalEndpoint(redis_url=redis_url, token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        yield endpoint


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tool:
    for name in [name for name in os.environ if name.startswith("UPSTASH_STATE_TEST_")]:
        # Where CI keeps environments. The doctor would say that it is not a setting.
        monkeypatch.delenv(name)
    return Tool(capsys)
