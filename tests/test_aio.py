"""The functions as coroutines: in order, off the loop, with the same results."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_type_hints

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI

import upstash_state
from tests.support.clock import Clock
from tests.support.environ import Environ
from tests.support.memory import MemoryEndpoint
from upstash_state import (
    OrderStore,
    UnavailableError,
    UpstashRedis,
    aio,
    reset_client,
    time_budget,
)
from upstash_state.transport import intercepting


@pytest.fixture(autouse=True)
def redis(environ: Environ) -> Iterator[MemoryEndpoint]:
    environ.use("http://127.0.0.1:1", "token")
    reset_client(flush=False)
    redis = MemoryEndpoint(Clock(time.time()))
    with intercepting(redis, simulated=True):
        yield redis
    reset_client(flush=False)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_does_what_the_plain_one_does(backend: str) -> None:
    async def work() -> None:
        assert await aio.redis_save_order("1", {"n": 1}) is True
        assert await aio.redis_save_orders({"2": {}, "3": {}}) == 2
        assert await aio.redis_get_order("1") == {"n": 1}
        assert await aio.redis_get_order_count() == 3
        assert await aio.redis_delete_order("3") is True
        assert await aio.redis_get_all_orders() == {"1": {"n": 1}, "2": {}}
        assert await aio.redis_cleanup_old_orders() == 0
        assert await aio.redis_flush() is True
        assert await aio.get_redis_client() is upstash_state.get_redis_client()

    anyio.run(work, backend=backend)


def test_another_event_loop_waits() -> None:
    with pytest.raises(StopIteration) as done:
        aio.redis_save_order("1", {}).send(None)
    assert done.value.value is True


@pytest.mark.parametrize("name", [name for name in aio.__all__ if name != "lifespan"])
def test_the_names_and_signatures_are_those_of_the_package(name: str) -> None:
    plain, coroutine = getattr(upstash_state, name), getattr(aio, name)
    parameters = inspect.signature(plain).parameters.values()
    ours = inspect.signature(coroutine).parameters.values()
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in parameters]
    assert get_type_hints(coroutine)
    assert "redis_" in name or name in ("get_redis_client", "serialize_order", "deserialize_order")


def test_a_save_is_accepted_when_its_coroutine_starts(redis: MemoryEndpoint) -> None:
    async def work() -> None:
        order: dict[str, Any] = {}
        tasks = []
        for n in range(50):
            order["n"] = n
            tasks.append(asyncio.create_task(aio.redis_save_order("1", order)))
            await asyncio.sleep(0)
        order["n"] = "changed later"
        # They end in any order.
        assert all(await asyncio.gather(*reversed(tasks)))

    asyncio.run(work())
    assert redis.get("order:1") == '{"n": 49}'


@pytest.mark.parametrize("name", [name for name in aio.__all__ if "serialize" not in name])
def test_frameworks_recognise_coroutine_functions(name: str) -> None:
    assert name == "lifespan" or inspect.iscoroutinefunction(getattr(aio, name))


def test_a_framework_runs_a_save_in_the_background_and_flushes_at_shutdown(
    redis: MemoryEndpoint,
) -> None:
    app = FastAPI(lifespan=aio.lifespan)

    @app.post("/orders")
    async def create(background: BackgroundTasks) -> None:
        background.add_task(aio.redis_save_order, "1", {})

    async def served() -> None:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")
        async with app.router.lifespan_context(app), client:
            await client.post("/orders")
            assert redis.get("order:1") == "{}"
            redis.down = True
            assert upstash_state.redis_save_order("2", {}) is False
            redis.down = False

    asyncio.run(served())
    assert redis.get("order:2") == "{}"


def test_what_is_raised_in_a_lifespan_passes_after_the_flush(redis: MemoryEndpoint) -> None:
    async def app() -> None:
        async with aio.lifespan():
            redis.plan.append("refused")
            assert not await aio.redis_save_order("1", {})
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(app())
    assert redis.get("order:1") == "{}"


def test_a_lifespan_of_ones_own_that_yields_state_contains_it(redis: MemoryEndpoint) -> None:
    @contextlib.asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        async with aio.lifespan(app):
            yield {"tables": 12}

    app = FastAPI(lifespan=own)

    async def served() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"tables": 12}
            redis.plan.append("refused")
            assert not await aio.redis_save_order("1", {})

    asyncio.run(served())
    assert redis.get("order:1") == "{}"


def test_a_lifespan_sends_what_every_store_has_pending(redis: MemoryEndpoint) -> None:
    async def app() -> None:
        async with aio.lifespan():
            store = OrderStore(UpstashRedis("http://127.0.0.1:1", "token"), prefix="table:")
            redis.plan.append("refused")
            with pytest.raises(UnavailableError):
                store.save("1", {})

    asyncio.run(app())
    assert redis.get("table:1") == "{}"


def test_a_lifespan_names_what_is_left_in_the_log(
    redis: MemoryEndpoint, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ.set(UPSTASH_STATE_TIMEOUT="0.2")

    async def app() -> None:
        async with aio.lifespan():
            redis.down = True
            await aio.redis_save_order("17", {})
            caplog.clear()

    asyncio.run(app())
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors[-1] == "Not saved to Redis at shutdown: 17"
    # Where exit handlers run, they try again.
    redis.down = False
    assert upstash_state.redis_flush(30)
    assert redis.get("order:17") == "{}"


def test_a_lifespan_without_a_save_needs_no_credentials(
    redis: MemoryEndpoint, environ: Environ, caplog: pytest.LogCaptureFixture
) -> None:
    environ.use("", "")

    async def app() -> None:
        async with aio.lifespan():
            pass

    asyncio.run(app())
    assert not caplog.records


def test_background_saves_after_the_shutdown_are_sent_at_once(
    redis: MemoryEndpoint, environ: Environ
) -> None:
    environ.set(UPSTASH_STATE_BACKGROUND="600")

    async def app(number: str) -> None:
        # The outer lifespan of an app, or another thread of it, may still save.
        async with aio.lifespan():
            assert await aio.redis_save_order(f"{number} running", {})
            assert redis.get(f"order:{number} running") is None
        assert redis.get(f"order:{number} running") == "{}"
        assert await aio.redis_save_order(f"{number} ended", {})
        assert redis.get(f"order:{number} ended") == "{}"

    async def one_after_the_other() -> None:
        await app("1")
        reset_client()
        assert await aio.redis_save_order("reset", {})
        assert redis.get("order:reset") is None
        await app("2")
        await app("3")

    asyncio.run(one_after_the_other())
    # The process goes on.
    assert upstash_state.redis_save_order("later", {})
    assert redis.get("order:later") is None
    asyncio.run(app("4"))
    assert redis.get("order:later") == "{}"


def test_an_endpoint_that_hangs_leaves_the_apps_own_threads_alone(redis: MemoryEndpoint) -> None:
    go_on = threading.Event()
    redis.before = lambda commands: go_on.wait(30) and None

    async def work() -> None:
        saves = [asyncio.create_task(aio.redis_save_order(str(n), {})) for n in range(50)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(asyncio.to_thread(threading.active_count), 20) > 1
        go_on.set()
        assert all(await asyncio.gather(*saves))

    asyncio.run(work())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_save_that_is_cancelled_is_sent_later(redis: MemoryEndpoint, backend: str) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def hold(commands: list[list[str]]) -> None:
        arrived.set()
        go_on.wait(30)

    async def work() -> None:
        redis.before = hold
        async with anyio.create_task_group() as group:
            for n in range(aio.THREADS + 1):
                group.start_soon(aio.redis_save_order, str(n), {})
            await anyio.to_thread.run_sync(arrived.wait, 30)
            group.cancel_scope.cancel()
            go_on.set()
        assert await aio.redis_flush()

    anyio.run(work, backend=backend)
    assert len(redis.keys) == aio.THREADS + 1


def test_the_loop_goes_on_meanwhile(redis: MemoryEndpoint) -> None:
    go_on = threading.Event()
    redis.before = lambda commands: go_on.wait(10) and None

    async def work() -> None:
        saving = asyncio.create_task(aio.redis_save_order("1", {}))
        await asyncio.sleep(0)
        assert not saving.done()
        go_on.set()
        assert await saving

    asyncio.run(work())


def test_without_a_loop_it_begins_when_it_is_run(redis: MemoryEndpoint) -> None:
    assert asyncio.run(aio.redis_save_order("1", {"n": 1}))
    assert redis.get("order:1") == '{"n": 1}'


def test_a_time_budget_goes_along(redis: MemoryEndpoint) -> None:
    async def work() -> None:
        with time_budget(0):
            assert await aio.redis_save_order("1", {}) is False

    asyncio.run(work())
    assert redis.requests == 0


def test_nothing_is_raised_at_the_call_either(redis: MemoryEndpoint) -> None:
    odd: Any = {1}

    async def work() -> None:
        assert await aio.redis_save_order(odd, odd) is False
        assert await aio.redis_save_orders(odd) == 0
        assert await aio.redis_delete_order(odd) is False

    asyncio.run(work())


def test_where_no_thread_is_left_the_loop_waits(redis: MemoryEndpoint) -> None:
    before = aio.redis_save_order("1", {"n": 1})

    async def work() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        assert await before is True
        assert await aio.redis_save_order("2", {"n": 2}) is True
        assert await aio.redis_get_all_orders() == {"1": {"n": 1}, "2": {"n": 2}}

    asyncio.run(work())
