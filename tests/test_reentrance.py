"""A signal handler may save at any line of a save: both are done, and nothing older is sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import upstash_state
from tests.support.clock import Clock
from tests.support.memory import MemoryEndpoint
from upstash_state import OrderStore, UpstashRedis
from upstash_state.transport import intercepting

HERE = Path(upstash_state.__file__).parent
FILES = {str(HERE / name) for name in ("ledger.py", "entry.py", "saver.py", "bulk.py", "store.py")}


@pytest.fixture
def redis() -> Iterator[MemoryEndpoint]:
    redis = MemoryEndpoint(Clock())
    with intercepting(redis, simulated=True):
        yield redis


def interrupted(work: Callable[[], Any], line: int, handler: Callable[[], Any]) -> bool:
    """Call a handler before the nth line of the ledger's and the saver's that some work runs.

    Returns:
        Whether it runs so many lines.
    """
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            count += 1
            if count == line:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count >= line


@pytest.mark.parametrize("owed", [False, True], ids=["nothing owed", "something owed"])
@pytest.mark.parametrize("skip", [0.0, 60.0], ids=["", "skip unchanged"])
def test_another_order(redis: MemoryEndpoint, owed: bool, skip: float) -> None:
    line = 0
    more = True
    while more:
        line += 1
        clock = Clock()
        client = UpstashRedis("http://127.0.0.1:1", f"token-{line}")
        store = OrderStore(client, skip_unchanged=skip, clock=clock)
        if owed:
            store.note_save("3", {"n": line})
        store.save("1", {"n": -line})
        more = interrupted(
            partial(store.save, "1", {"n": line}), line, partial(store.save, "2", {"n": line})
        )
        held = f'{{"n": {line}}}'
        assert redis.get("order:1") == held, line
        assert redis.get("order:2") == (held if more else redis.get("order:2")), line
        assert store.unsaved == (), line
    assert line > 100
