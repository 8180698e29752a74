"""Processes, threads and a network, one step at a time, in an order that `choose` decides.

A simulated thread is a real one that runs only while the world lets it. It stops where time may
pass: before its request arrives, after it was executed, and where it waits for another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from tests.simulation.model import Redis
from upstash_state import ResponseError, UnavailableError, delivery
from upstash_state.commands import Command
from upstash_state.delivery import Delivery
from upstash_state.errors import CapacityExceededError, UpstashError
from upstash_state.outbox import DELAYED_AFTER, LATE, Outbox
from upstash_state.transport import Exchange

TIMEOUT = 5.0
TTL = 7 * 86_400.0

#: What may happen to a request. Of an abandoned one, the client cannot tell which it was.
FATES = ("lost", "unanswered", "late", "refused", "retried", "full")

Choose = Callable[[int], int]


class Call:
    """A write that the app gave to a process."""

    def __init__(self, process: Process, key: str, text: str | None) -> None:
        self.process, self.key, self.text = process, key, text
        self.at = process.world.now
        process.world.calls += 1
        self.order = process.world.calls
        #: When the call returned, and what.
        self.returned = float("inf")
        self.true = False

    def __lt__(self, other: Call) -> bool:
        return self.order < other.order

    def beats(self, other: Call) -> bool:
        """Whether it was made after the other one had returned.

        The expiry of a delayed write, by which they are compared, is off by the time that its
        request takes.
        """
        return (
            self.process is not other.process
            and self.key not in self.process.lost
            and self.at >= other.returned + (0 if other.true else TIMEOUT)
        )

    def __repr__(self) -> str:
        return f"{self.process.name}.{self.order}: {self.key} = {self.text}"


class Carrier:
    """A real thread, which runs one simulated thread after the other: a start takes longer."""

    idle: ClassVar[list[Carrier]] = []

    def __init__(self) -> None:
        self.go, self.stopped = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.stopped.acquire()
        self.run: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.go.acquire()
            self.run()
            self.idle.append(self)
            self.stopped.release()


class Thread:
    """A simulated thread: runs a function, and stops wherever `pause` is called."""

    def __init__(self, world: World, process: Process, work: Callable[[], None]) -> None:
        self.world, self.process = world, process
        self.done = False
        #: Until when it waits to be notified; None if it can run.
        self.waits: float | None = None
        self.raised: BaseException | None = None
        self._work = work
        self._carrier = Carrier.idle.pop() if Carrier.idle else Carrier()
        self._carrier.run = self._run

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.raised = error
        self.done = True

    def pause(self) -> None:
        """Let others run. Called in this thread."""
        self._carrier.stopped.release()
        self._carrier.go.acquire()

    def step(self) -> None:
        """Run it up to its next pause. Called by the world."""
        carrier = self._carrier
        self.world.running = self
        carrier.go.release()
        carrier.stopped.acquire()
        if self.raised is not None:
            raise self.raised


class Condition:
    """Stands for the outbox's condition variable."""

    def __init__(self, world: World, lock: Any) -> None:
        self._world, self._lock = world, lock

    def wait(self, timeout: float) -> None:
        thread = self._world.running
        thread.waits = self._world.now + timeout
        self._lock.release()
        thread.pause()
        self._lock.acquire()

    def notify_all(self) -> None:
        for thread in self._world.threads:
            thread.waits = None


class Process:
    """One process of the app, with its outbox and its delivery."""

    def __init__(self, world: World, name: str, background: float = 0.0) -> None:
        self.world, self.name, self.background = world, name, background
        #: Until when it is stopped.
        self.stopped_until = 0.0
        #: Keys of writes that were pending or marked when it ended.
        self.lost: set[str] = set()
        self.calls: list[Call] = []
        self.start()

    def start(self) -> None:
        """Start with an empty outbox, as after a restart."""
        self.ending = False
        self.outbox = Outbox(self.world.clock)
        self.outbox.changed = Condition(self.world, self.outbox.lock)  # type: ignore[assignment]
        client: Any = Client(self)
        self.delivery = Delivery(self.outbox, client, "")
        if self.background:
            self.delivery._worker = Alarm()  # type: ignore[assignment]

    def save(self, texts: dict[str, str | None]) -> None:
        """Save orders, or delete them for None, in one call."""
        writes, calls = [], []
        box, deliver = self.outbox, self.delivery
        for key, text in texts.items():
            number = box.next_number()
            calls.append(Call(self, key, text))
            self.calls.append(calls[-1])
            if self.world.slow_serializer:
                self.world.pause()
            write = box.put(key, text, number, TTL)
            writes += [write] if write is not None else []
        deadline = self.world.now + TIMEOUT if len(texts) == 1 else None
        failed = deliver.deliver(writes, deadline)
        for call in calls:
            self.world.told(call, call.key not in failed)

    def restart(self) -> None:
        """End, as a process does at exit, and start again."""
        self.delivery.flush(once=True)
        self.lost.update(write.key for write in self.outbox.all_pending())
        # What is executed late from now on, nobody corrects.
        self.lost.update(self.outbox._abandoned)
        self.start()


class Alarm:
    """Stands for the worker: its rounds are steps of the world."""

    woken = False

    def wake(self) -> bool:
        self.woken = True
        return True


class Client:
    """Stands for the client: each request has the fate that the world decides."""

    timeout = TIMEOUT

    def __init__(self, process: Process) -> None:
        self._process = process

    def retry_now(self) -> None:
        pass

    def close(self) -> None:
        pass

    def exchange(
        self, commands: Sequence[Command[Any]], *, path: str, deadline: float | None
    ) -> Exchange:
        world = self._process.world
        if deadline is not None and deadline <= world.now:
            raise UnavailableError("no time", reason="budget", may_have_executed=False)
        until = world.now + TIMEOUT
        world.pause()
        fate = world.fate() if world.now < until else "lost"
        world.now += 0.02
        if fate == "refused":
            raise UnavailableError("refused", reason="connect", may_have_executed=False)
        sent = [command.args for command in commands]
        if fate in ("lost", "late", "retried"):
            if fate != "lost":
                world.late.append((world.now + LATE, sent))
            if fate != "retried":
                world.now += TIMEOUT
                raise UnavailableError("no answer", reason="timeout")
        results: list[Any] = []
        for command in commands:
            answer: Any = "ERR OOM" if fate == "full" else world.redis.execute(command.args)
            if isinstance(answer, str) and answer.startswith("ERR"):
                kind = CapacityExceededError if fate == "full" else ResponseError
                results.append(kind(answer))
            else:
                results.append(command.read(answer))
        if fate == "unanswered":
            world.now += TIMEOUT
            raise UnavailableError("no answer", reason="timeout")
        if not world.coarse:
            world.pause()
        if path == "/" and isinstance(results[0], UpstashError):
            raise results[0]
        return Exchange(results, 0.02, fate == "retried")


class World:
    """Everything, at one moment.

    Args:
        choose: Returns one of the numbers below the one it is given: which thread runs next, what
            happens to a request.
        fates: Which fates requests may have besides arriving, each of them once.
        slow_serializer: Whether threads stop between being called and putting their write.
        coarse: Whether threads do not stop between a request's execution and its answer.
    """

    def __init__(
        self,
        choose: Choose,
        fates: Sequence[str] = (),
        *,
        slow_serializer: bool = False,
        coarse: bool = False,
    ) -> None:
        self.choose = choose
        self.slow_serializer, self.coarse = slow_serializer, coarse
        self.calls = 0
        self.now = 1000.0
        self.redis = Redis(self.clock)
        self.threads: list[Thread] = []
        self.running: Thread = None  # type: ignore[assignment]
        self.processes: list[Process] = []
        #: Until when abandoned requests may be executed, and their commands.
        self.late: list[tuple[float, list[list[str]]]] = []
        self.fates = list(fates)
        self.down_until = 0.0
        self.quiet = False
        #: Keys of requests that were executed after they had been given up.
        self.executed_late: set[str] = set()

    def clock(self) -> float:
        return self.now

    def process(self, name: str, background: float = 0.0) -> Process:
        self.processes.append(Process(self, name, background))
        return self.processes[-1]

    def start(self, process: Process, work: Callable[[], None]) -> None:
        """Start a thread. It runs when it is chosen."""
        self.threads.append(Thread(self, process, work))

    def pause(self) -> None:
        """Called by a thread where time may pass."""
        if not self.quiet:
            self.running.pause()

    def fate(self) -> str:
        """Decide what happens to a request."""
        if self.quiet:
            return "arrives"
        if self.now < self.down_until:
            return "refused"
        choice = self.choose(len(self.fates) + 1)
        return self.fates.pop(choice - 1) if choice else "arrives"

    def execute_late(self, index: int) -> None:
        """Execute an abandoned request, unless it is too late for that."""
        until, commands = self.late.pop(index)
        if self.now <= until:
            before = {key: len(texts) for key, texts in self.redis.history.items()}
            for args in commands:
                self.redis.execute(args)
            for key, texts in self.redis.history.items():
                if len(texts) > before.get(key, 0):
                    self.executed_late.add(key)

    def told(self, call: Call, true: bool) -> None:
        """A call has returned: what it said must be true."""
        # In background mode it is sent later, and as a delayed write after some seconds.
        call.true = true and not call.process.background
        call.returned = self.now + (DELAYED_AFTER + 2 * TIMEOUT) * bool(call.process.background)
        if not true or call.process.background:
            return
        newer = [c.text for c in call.process.calls if c.key == call.key and c.order >= call.order]
        history = self.redis.history.get(call.key, [])
        others = [c for p in self.processes if p is not call.process for c in p.calls]
        superseded = any(c.key == call.key and c.text in history for c in others)
        assert superseded or any(text in history for text in newer), f"True is not true: {call}"

    def step(self) -> bool:
        """Let one thread run, or one abandoned request arrive. False when nothing is left to do."""
        self.now += 0.001
        self.threads = [thread for thread in self.threads if not thread.done]
        ready = [
            thread
            for thread in self.threads
            if thread.waits is None and thread.process.stopped_until <= self.now
        ]
        if not ready:
            if not self.threads:
                return False
            ends = [t.waits for t in self.threads if t.waits is not None]
            ends += [t.process.stopped_until for t in self.threads]
            self.now = min([end for end in ends if end > self.now], default=self.now)
            for thread in self.threads:
                if thread.waits is not None and thread.waits <= self.now:
                    thread.waits = None
            return True
        choice = self.choose(len(ready) + len(self.late))
        if choice < len(ready):
            ready[choice].step()
        else:
            self.execute_late(choice - len(ready))
        return True

    def settle(self) -> None:
        """Run everything to its end, then let there be quiet, and then some traffic."""
        while self.step():
            pass
        self.now += 1.0
        while self.late:
            self.execute_late(0)
        self.quiet = True
        for _ in range(12):
            self.now += LATE + 1
            for process in self.processes:
                process.stopped_until = 0.0
                # As a call that works does, and in background mode the worker.
                process.delivery._send_due(None, fresh=bool(process.background))
        for process in self.processes:
            assert process.outbox.is_idle(), f"{process.name} still has writes"
        for key in {call.key for process in self.processes for call in process.calls}:
            self._check(key)

    def _check(self, key: str) -> None:
        """The specification of the final state."""
        calls = [call for p in self.processes for call in p.calls if call.key == key]
        newest = [max(c for c in calls if c.process is p) for p in {c.process for c in calls}]
        # The last write stands, unless another process wrote after its call had returned.
        allowed = {c.text for c in newest if not any(other.beats(c) for other in newest)}
        if key in self.executed_late:
            # Nobody can tell what a request overwrote that was executed after it was given up.
            allowed.update(call.text for call in newest)
        if any(call.text is None for call in calls):
            # A delete leaves nothing that tells when it was made, or by whom. So a save that had
            # failed is sent after it, and one that the process itself may have deleted.
            for call in newest:
                same = [c for c in calls if c.process is call.process]
                if not call.true or any(c.text is None for c in same):
                    allowed.add(call.text)
        if any(key in call.process.lost for call in calls):
            allowed.update((None, *(c.text for c in calls if key in c.process.lost)))
        found = self.redis.get(key)
        assert found in allowed, f"{key} is {found}, not one of {allowed}"


def use_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Let the delivery's deadlines go by a clock."""

    class Time:
        monotonic = staticmethod(clock)

    monkeypatch.setattr(delivery, "time", Time)
    monkeypatch.setattr(delivery, "deadline_within", lambda seconds: clock() + seconds)
