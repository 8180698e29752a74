from litestar import Litestar, post

from upstash_state.aio import lifespan, redis_save_order


@post("/orders/{order_id:str}")
async def save(order_id: str) -> dict[str, bool]:
    return {"saved": await redis_save_order(order_id, {"status": "new"})}


app = Litestar([save], lifespan=[lifespan])
