"""Recordings of apps with coroutines, threads and background mode."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from threading import Thread

import pytest

from tests.support.environ import Environ
from upstash_state import (
    aio,
    redis_delete_order,
    redis_flush,
    redis_get_all_orders,
    redis_get_order,
    redis_save_order,
    redis_save_orders,
)
from upstash_state.local import LocalEndpoint
from upstash_state.recording import RecordingMismatchError, recording
from upstash_state.recording.file import load

REPLAYS = 20
IDS = [str(number) for number in range(8)]


@pytest.fixture
def path(tmp_path: Path, endpoint: LocalEndpoint, environ: Environ) -> Path:
    environ.use(endpoint.url, endpoint.token)
    return tmp_path / "r.yaml"


def commands(path: Path) -> list[str]:
    return [
        " ".join(command[:2])
        for exchange in load(path.read_text(encoding="utf-8"))
        for command in exchange.request.commands
    ]


async def gathered_saves() -> None:
    saves = [aio.redis_save_order(order_id, {"n": order_id}) for order_id in IDS]
    assert all(await asyncio.gather(*saves))
    assert await aio.redis_get_order_count() == len(IDS)


async def saves_of_one_order() -> None:
    tasks = [asyncio.create_task(aio.redis_save_order("1", {"n": n})) for n in range(5)]
    assert await asyncio.gather(*tasks)
    assert await aio.redis_get_order("1") == {"n": 4}


async def gathered_reads() -> None:
    assert await aio.redis_save_orders({order_id: {"n": order_id} for order_id in IDS}) == len(IDS)
    found = await asyncio.gather(*(aio.redis_get_order(order_id) for order_id in IDS))
    assert found == [{"n": order_id} for order_id in IDS]


async def new_ids_and_times() -> None:
    async def sell(n: int) -> None:
        order_id, order = uuid.uuid4().hex, {"at": datetime.now(timezone.utc), "n": n}
        assert await aio.redis_save_order(order_id, order)
        assert await aio.redis_get_order(order_id) == order

    await asyncio.gather(*map(sell, range(8)))


def threads() -> None:
    def sell(order_id: str) -> None:
        for n in range(3):
            assert redis_save_order(order_id, {"n": n})
            assert redis_get_order(order_id) == {"n": n}
        assert redis_delete_order(order_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sell, IDS))
    assert redis_get_all_orders() == {}


def threads_that_write_one_order() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: redis_save_order("1", {"n": n}), range(8)))
        assert all(pool.map(lambda n: redis_get_order("1"), range(8)))


SCENARIOS: dict[str, Callable[[], None]] = {
    "gathered saves": lambda: asyncio.run(gathered_saves()),
    "saves of one order": lambda: asyncio.run(saves_of_one_order()),
    "gathered reads": lambda: asyncio.run(gathered_reads()),
    "new ids and times": lambda: asyncio.run(new_ids_and_times()),
    "threads": threads,
    "threads that write one order": threads_that_write_one_order,
}


@pytest.mark.parametrize("background", ["0", "1"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_runs_at_the_same_time_replays(
    path: Path, environ: Environ, scenario: str, background: str
) -> None:
    environ.set(UPSTASH_STATE_BACKGROUND=background)
    varying = {"varying": ["at"], "varying_keys": ["order:*"]} if "new" in scenario else {}
    with recording(path, mode="all", **varying):  # type: ignore[arg-type]
        SCENARIOS[scenario]()
    for _ in range(REPLAYS):
        with recording(path, **varying):  # type: ignore[arg-type]
            SCENARIOS[scenario]()


def test_each_save_is_a_request_of_its_own_in_the_order_of_the_calls(path: Path) -> None:
    with recording(path, mode="all"):
        asyncio.run(gathered_saves())
    assert commands(path)[: len(IDS)] == [f"SET order:{order_id}" for order_id in IDS]


def test_saves_in_the_background_are_recorded_and_compared(path: Path, environ: Environ) -> None:
    environ.set(UPSTASH_STATE_BACKGROUND="3600")

    def app(total: int) -> None:
        redis_save_order("1", {"total": total})
        redis_save_orders({"2": {}, "3": {}})
        redis_delete_order("2")

    with recording(path, mode="all"):
        app(1)
    assert commands(path) == ["SET order:1", "MSETEX 2", "DEL order:2"]
    # In the background or not: a developer's shell does not matter.
    for background in ("3600", "0"):
        environ.set(UPSTASH_STATE_BACKGROUND=background)
        with recording(path):
            app(1)
        with pytest.raises(RecordingMismatchError) as failed, recording(path):
            app(2)
        assert str(failed.value).startswith("total is 2, recorded 1 (SET order:1, exchange 1)\n\n")


def test_a_failed_save_is_sent_again_in_the_background_too(path: Path, environ: Environ) -> None:
    environ.set(UPSTASH_STATE_BACKGROUND="3600")
    for mode in ("all", "none"):
        with recording(path, mode=mode) as used:  # type: ignore[arg-type]
            used.fail_next(4, "outage")
            redis_save_order("1", {"n": 1})
            assert redis_get_order("1") == {"n": 1}
            assert redis_flush()


@pytest.mark.parametrize("fault", ["outage", "slow"])
def test_what_is_sent_late_replays_although_it_varies(path: Path, fault: str) -> None:
    for mode in ("all", *["none"] * 3):
        order = {"at": datetime.now(timezone.utc), "n": 1}
        with recording(path, mode=mode, varying=["at"]) as used:  # type: ignore[arg-type]
            used.fail_next(4 if fault == "outage" else 1, fault)  # type: ignore[arg-type]
            assert not redis_save_order("1", order)
            assert redis_flush()
            assert redis_get_order("1") == order


def test_what_a_thread_reads_before_it_writes_is_noticed(path: Path) -> None:
    def app(*, first: bool) -> None:
        if first:
            redis_get_order("1")
        redis_save_order("1", {})
        if not first:
            redis_get_order("1")

    with recording(path, mode="all"):
        app(first=False)
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        app(first=True)
    assert str(failed.value).startswith(
        "sent in another order: GET order:1 (exchange 2) before SET order:1 (exchange 1)"
    )


def test_the_order_of_independent_requests_does_not_matter(path: Path) -> None:
    with recording(path, mode="all"):
        assert [redis_save_order(order_id, {}) for order_id in IDS]
        assert [redis_get_order(order_id) for order_id in IDS]
    with recording(path):
        assert [redis_save_order(order_id, {}) for order_id in reversed(IDS)]
        assert [redis_get_order(order_id) for order_id in reversed(IDS)]


def test_saves_in_another_order_leave_the_file_as_it_is(path: Path) -> None:
    """Threads save in another order in each run, and all orders are read after that."""
    texts = set()
    for ids in (IDS, IDS[::-1]):
        with recording(path, mode="all"):
            assert [redis_save_order(order_id, {}) for order_id in ids]
            assert redis_get_all_orders().keys() == {*IDS}
        texts.add(path.read_text(encoding="utf-8"))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ({"UPSTASH_STATE_TTL": "60"}, "    UPSTASH_STATE_TTL=60 is set"),
        ({"UPSTASH_STATE_PREFIX": "dev:"}, "    UPSTASH_STATE_PREFIX=dev: is set"),
        ({"UPSTASH_STATE_BACKGROUND": "5"}, None),
        ({"UPSTASH_STATE_TIMEOUT": "1"}, None),
        ({"UPSTASH_STATE_CATCH_UP": "0"}, None),
        ({"UPSTASH_STATE_RESTORE_WAIT": "5"}, None),
        ({"UPSTASH_STATE_ALLOW_HTTP": "1"}, None),
        ({"UPSTASH_STATE_SKIP_UNCHANGED": "60"}, "    UPSTASH_STATE_SKIP_UNCHANGED=60 is set"),
    ],
)
def test_a_variable_of_the_shell_does_not_matter_or_is_named(
    path: Path, environ: Environ, variable: dict[str, str], named: str | None
) -> None:
    def app() -> None:
        assert redis_save_order("1", {}) in (True, False)
        assert redis_save_order("1", {}) in (True, False)
        redis_get_all_orders()

    with recording(path, mode="all"):
        app()
    environ.set(**variable)
    if named is None:
        with recording(path):
            app()
    else:
        with pytest.raises(RecordingMismatchError) as failed, recording(path):
            app()
        assert named in str(failed.value).splitlines()


def test_a_thread_of_the_test_replays_as_the_test_does(path: Path) -> None:
    def app() -> None:
        thread = Thread(target=redis_save_order, args=("1", {}))
        thread.start()
        thread.join(30)
        assert redis_get_order("1") == {}

    for mode in ("all", "none"):
        with recording(path, mode=mode):  # type: ignore[arg-type]
            app()


def test_a_thread_that_the_test_starts_is_not_named(path: Path) -> None:
    """Each call of Starlette's TestClient runs in one, with a new name."""

    def app(total: int) -> None:
        thread = Thread(target=redis_save_order, args=("1", {"total": total}))
        thread.start()
        thread.join(30)

    with recording(path, mode="all"):
        app(1)
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        app(2)
    assert str(failed.value).startswith("total is 2, recorded 1 (SET order:1, exchange 1)\n")
