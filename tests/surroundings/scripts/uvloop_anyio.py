"""60 saves by `aio` and from threads of `anyio` and `asyncio`, on uvloop; the time limit holds"""

import asyncio

import anyio
import anyio.to_thread
import uvloop
from probes import ORDER, saves, time_limit_holds

from upstash_state import aio, redis_save_order

saved: list[bool] = []


async def save(number: int) -> None:
    saved.append(await anyio.to_thread.run_sync(redis_save_order, str(number), ORDER))


async def main() -> None:
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(save, number)
    saved.extend(
        await asyncio.gather(
            *(asyncio.to_thread(redis_save_order, str(number), ORDER) for number in range(20))
        )
    )
    saved.extend(
        await asyncio.gather(*(aio.redis_save_order(str(number), ORDER) for number in range(20)))
    )
    await asyncio.to_thread(time_limit_holds)


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
assert saved == [True] * 60, saved
saves()
