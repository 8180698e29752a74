from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from upstash_state.aio import lifespan, redis_save_order


@asynccontextmanager
async def own(app: Starlette) -> AsyncIterator[dict[str, str]]:
    async with lifespan(app):
        yield {"status": "new"}
    await redis_save_order("last", {"status": "closed"})


async def save(request: Request) -> JSONResponse:
    order = {"status": getattr(request.state, "status", "new")}
    return JSONResponse({"saved": await redis_save_order(request.path_params["order_id"], order)})


orders = Route("/orders/{order_id}", save, methods=["POST"])
app = Starlette(routes=[orders], lifespan=own)
