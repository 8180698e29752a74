"""An app that uses the package passes its type checkers, and they notice a mistake."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import upstash_state

APP = """
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from typing_extensions import assert_type

from upstash_state import (
    Health,
    OrderStore,
    Pipeline,
    RestoreError,
    SaveManyError,
    UpstashRedis,
    deserialize_order,
    get_redis_client,
    redis_delete_order,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
    redis_save_orders,
    reset_client,
    serialize_order,
    time_budget,
)
from upstash_state.aio import lifespan

app = FastAPI(lifespan=lifespan)
STATE: dict[str, dict[str, Any]] = redis_get_all_orders()


def on_change(order_id: str, seconds: float) -> bool:
    with time_budget(seconds):
        return redis_save_order(order_id, STATE[order_id])


def everything() -> int:
    order = redis_get_order("5866")
    if order is not None:
        STATE["5866"] = deserialize_order(serialize_order(order))
    redis_delete_order("5866")
    reset_client()
    return redis_get_order_count() + redis_save_orders(STATE)


def raising() -> Health:
    with UpstashRedis.from_env() as redis:
        text: str | None = redis.get("k")
        done: bool | None = redis.set("k", text or "", ex=timedelta(days=1))
        values: list[str | None] = redis.mget(["a", "b"])
        cursor, keys = redis.scan(match="order:*")
        results: list[Any] = redis.pipeline().get("a").ttl("b").execute(raise_on_error=False)
        print(done, values, cursor + 1, keys, results)
        store = OrderStore(redis, ttl=60)
        try:
            store.save_many(store.get_all())
        except SaveManyError as error:
            print(error.saved, error.failed)
        except RestoreError as error:
            print(error.__cause__)
        return store.health(max_age=60)


def inferred(redis: UpstashRedis) -> None:
    assert_type(redis.get("k"), str | None)
    assert_type(redis.set("k", 1, px=5, nx=True), bool | None)
    assert_type(redis.mget("a", "b"), list[str | None])
    assert_type(redis.pttl("k"), int)
    assert_type(redis.expire("k", 5), bool)
    assert_type(redis.scan(count=10), tuple[int, list[str]])
    assert_type(redis.scan_iter("order:*"), Iterator[str])
    assert_type(redis.pipeline().get("k"), Pipeline)
    assert_type(redis.pipeline().set("k", 1, ex=5).scan(0, "a*").delete("a", "b"), Pipeline)


client = get_redis_client()
if client is not None:
    client.ping()
"""
MISTAKES = [
    "redis_save_order(5, STATE).upper()",
    "UpstashRedis.from_env().get('k').upper()",
    "UpstashRedis.from_env().get()",
    "UpstashRedis.from_env().set('k', 'v', expiry=5)",
    "UpstashRedis.from_env().pipeline().expire('k', 'soon')",
]


PACKAGE = Path(upstash_state.__file__).parent
# Type checkers do not follow an editable install; an installed wheel they find by themselves.
CHECKOUT = [] if "site-packages" in PACKAGE.parts else [str(PACKAGE.parent)]


def check(command: list[str], directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    app = directory / "app.py"
    app.write_text(code, encoding="utf-8")
    return subprocess.run(
        [*command, app.name],
        cwd=directory,
        env={**os.environ, "MYPYPATH": os.pathsep.join(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_types_are_complete_for_users(checker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed (pip install {checker})")
    if checker == "pyright" and shutil.which("node") is None:
        pytest.skip("pyright needs Node.js")
    if checker == "mypy":
        command = [sys.executable, "-m", "mypy", "--strict"]
    else:
        command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
        config = {"typeCheckingMode": "strict", "extraPaths": CHECKOUT}
        (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    result = check(command, tmp_path, APP)
    assert result.returncode == 0, result.stdout
    for mistake in MISTAKES:
        result = check(command, tmp_path, f"{APP}\n{mistake}\n")
        assert result.returncode == 1, mistake
