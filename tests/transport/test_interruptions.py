"""A signal handler that raises at any moment leaves a process that works.

As Ctrl-C, SIGALRM and a SIGTERM that ends in SystemExit do. Where the interruption falls is decided
by the clock, so a seed gives the same plan and not the same run; INTERRUPTIONS sets how many.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import pytest

import upstash_state
from tests.support.faults import FAULTS, FaultServer
from tests.support.sending import run
from upstash_state import UnavailableError, UpstashRedis, time_budget
from upstash_state.commands import Command
from upstash_state.settings import check_token
from upstash_state.transport import Transport, deadline_within

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX timer"),
]

INTERRUPTIONS = int(os.environ.get("INTERRUPTIONS", "1000"))
# Of a call that does not return, on a machine under load.
PATIENCE = 20.0
FAULT = {fault.name: fault for fault in FAULTS}


class Interrupted(BaseException):
    """What the handler raises."""


class Hung(BaseException):
    """What the handler raises when a call has not returned for long."""


@contextmanager
def interruption(seconds: float, kind: type[BaseException] = Interrupted) -> Iterator[None]:
    """Raise in this thread in so many seconds, if the block still runs then."""
    armed = True

    def handler(number: int, frame: FrameType | None) -> None:
        if armed:
            raise kind

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Process:
    """What is interrupted, and what must work afterwards."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.now = 0.0
        self.transport = Transport(
            server.url, check_token(server.token), timeout=5, clock=lambda: self.now
        )
        self.number = 0

    def run(self, *command: str) -> object:
        sent = Command(list(command), lambda answer: answer, repeatable=True)
        return run(self.transport, sent)

    def kept(self) -> None:
        self.run("SET", "k", "interrupted")

    def fresh(self) -> None:
        self.transport.close()
        self.run("SET", "k", "interrupted")

    def new(self) -> None:
        # From the first import of nothing on: a client's first call.
        client = UpstashRedis(self.server.url, self.server.token)
        with client:
            client.ping()

    def retried(self) -> None:
        self.server.plan(FAULT["html_with_503"])
        self.run("SET", "k", "interrupted")

    def budget(self) -> None:
        with time_budget(2), time_budget(1):
            self.run("GET", "k")

    def opening(self) -> None:
        self.open_circuit()

    def before_probe(self) -> None:
        self.open_circuit()
        self.now += 120

    def probe(self) -> None:
        self.run("GET", "k")

    def order(self) -> None:
        upstash_state.redis_save_order("1", {"n": self.number})

    def open_circuit(self) -> None:
        self.server.plan(FAULT["html_with_200"], 3)
        for _ in range(3):
            with suppress(UnavailableError):
                self.run("GET", "k")

    def works(self) -> None:
        """It works in this thread, and in another."""
        self.server.clear()
        # No circuit stays open beyond its pause, or beyond what a probe may take.
        self.now += 120
        self.number += 1
        value = str(self.number)
        assert self.run("SET", value, value) in ("OK", True)
        there: list[object] = []
        thread = threading.Thread(target=lambda: there.append(self.run("GET", value)), daemon=True)
        thread.start()
        assert self.run("GET", value) == value
        thread.join(PATIENCE / 2)
        if thread.is_alive():
            stack = traceback.format_stack(sys._current_frames()[thread.ident or 0])
            raise AssertionError("another thread hangs:\n" + "".join(stack))
        assert there == [value]
        order = {"n": self.number}
        # The order whose save was interrupted, and another one.
        for order_id in ("1", "2"):
            assert upstash_state.redis_save_order(order_id, order)
            assert upstash_state.redis_get_order(order_id) == order
        assert deadline_within(60) - time.monotonic() > 59


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    # A handler may raise in a finalizer, too, which Python can only report.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    with FaultServer() as server:
        monkeypatch.setenv("UPSTASH_REDIS_REST_URL", server.url)
        monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", server.token)
        upstash_state.reset_client()
        yield Process(server)
        upstash_state.reset_client()
        # An interruption may leave a connection to the garbage collector, which warns of it.
        gc.collect()


CALLS = ("kept", "fresh", "new", "retried", "budget", "opening", "probe", "order")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("seed", [1])
def test_an_interruption_at_any_moment_leaves_a_process_that_works(
    process: Process, call: str, seed: int
) -> None:
    chance = random.Random(f"{call} {seed}")
    interrupted: Callable[[], None] = getattr(process, call)
    prepare: Callable[[], None] = getattr(process, f"before_{call}", lambda: None)
    process.works()
    took = PATIENCE
    for _ in range(5):
        prepare()
        begin = time.monotonic()
        with suppress(UnavailableError):
            interrupted()
        took = min(took, time.monotonic() - begin)
        process.works()
    hits = 0
    for number in range(INTERRUPTIONS // len(CALLS)):
        prepare()
        moment = max(chance.uniform(0, took * 1.2), 1e-6)
        try:
            with interruption(moment):
                interrupted()
        except Interrupted:
            hits += 1
        except UnavailableError:
            # The circuit of the interruption before may still be open.
            pass
        with interruption(PATIENCE, Hung):
            try:
                process.works()
            except BaseException as error:
                raise AssertionError(f"interruption {number}, {moment:.6f} s in") from error
    assert hits > INTERRUPTIONS // len(CALLS) / 10
