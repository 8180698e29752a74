"""Signal handlers that save, and Ctrl-C, at any line of a save: nothing is lost or blocked."""

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
from upstash_state import OrderStore, UpstashError, UpstashRedis, reset_client
from upstash_state.transport import intercepting

HERE = Path(upstash_state.__file__).parent
NAMES = ("outbox.py", "delivery.py", "registry.py", "writes.py", "worker.py", "store.py")
FILES = {str(HERE / name) for name in NAMES}


class Process:
    """A store whose saves can be interrupted, and what its database holds."""

    def __init__(self, **settings: Any) -> None:
        reset_client(flush=False)
        self.clock = Clock()
        self.redis = MemoryEndpoint(self.clock)
        client = UpstashRedis("http://127.0.0.1:1", "token")
        self.store = OrderStore(client, clock=self.clock, **settings)
        with intercepting(self.redis, simulated=True):
            self.store.save("1", {"n": 0})

    def interrupted(self, line: int, handler: Callable[[], Any]) -> bool:
        """Save order 1 as {"n": 1}, and call a handler before the nth line of the package.

        Returns:
            Whether the save runs so many lines.
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
        with intercepting(self.redis, simulated=True):
            sys.settrace(trace)
            try:
                self.store.save("1", {"n": 1})
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
        return count >= line

    def saved(self, order_id: str, n: int) -> bool:
        try:
            self.store.save(order_id, {"n": n})
        except UpstashError:
            return False
        return True

    def holds(self, order_id: str) -> str | None:
        return self.redis.get(f"order:{order_id}")


@pytest.fixture(params=[{}, {"skip_unchanged": 60.0}], ids=["", "skip unchanged"])
def processes(request: pytest.FixtureRequest) -> Iterator[Process]:
    return (Process(**request.param) for _ in iter(int, 1))


@pytest.mark.parametrize("delayed", [False, True], ids=["nothing delayed", "another one delayed"])
def test_a_handler_that_saves_another_order(processes: Iterator[Process], delayed: bool) -> None:
    for line, process in enumerate(processes, 1):
        if delayed:
            process.store.accept("3", {"n": 3})
            process.clock.now += 60
        if not process.interrupted(line, partial(process.store.save, "2", {"n": 2})):
            break
        held = [process.holds(order_id) for order_id in "12"]
        assert held == ['{"n": 1}', '{"n": 2}'], line
        assert process.store.unsaved == (), line
    assert line > 100


def test_a_handler_that_saves_the_same_order(processes: Iterator[Process]) -> None:
    told = []
    for line, process in enumerate(processes, 1):
        number = process.store._outbox.next_number()
        newest = '{"n": 1}'

        def handler(process: Process = process, number: int = number, line: int = line) -> None:
            nonlocal newest
            if process.store._outbox.next_number() > number + 1:
                newest = '{"n": 2}'
            told.append(process.saved("1", 2))
            assert not told[-1] or process.holds("1") == '{"n": 2}', line

        if not process.interrupted(line, handler):
            break
        assert process.holds("1") in ('{"n": 1}', newest), line
        with intercepting(process.redis, simulated=True):
            process.clock.now += 60
            process.store.count()
        assert process.holds("1") == newest, line
        assert process.store.unsaved == (), line
    # Only while the other one is being sent, it can be told nothing better.
    assert min(told.count(True), told.count(False)) > 20


def test_ctrl_c(processes: Iterator[Process]) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    for line, process in enumerate(processes, 1):
        if not process.interrupted(line, ctrl_c):
            break
        with intercepting(process.redis, simulated=True):
            assert process.saved("2", 2), line
            assert process.saved("1", 3), line
            assert process.holds("1") == '{"n": 3}', line
            process.clock.now += 60
            process.store.count()
        assert process.store.unsaved == (), line
        assert process.holds("1") == '{"n": 3}', line
    assert line > 100
