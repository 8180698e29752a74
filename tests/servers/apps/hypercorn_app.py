import signal

from fastapi import FastAPI

from upstash_state.aio import lifespan, redis_save_order

signal.signal(signal.SIGTERM, signal.SIG_IGN)

app = FastAPI(lifespan=lifespan)


@app.post("/orders/{order_id}")
async def save(order_id: str) -> dict[str, bool]:
    return {"saved": await redis_save_order(order_id, {"status": "new"})}
