import os

from nicegui import app, ui

from upstash_state.aio import redis_flush, redis_save_order

app.on_shutdown(lambda: redis_flush())


@app.post("/orders/{order_id}")
async def save(order_id: str) -> dict[str, bool]:
    return {"saved": await redis_save_order(order_id, {"status": "new"})}


ui.label("Orders")
ui.run(port=int(os.environ["PORT"]), reload=False, show=False)
