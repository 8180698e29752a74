"""Long runs, drawn by seed: processes that save, delete, stop and restart, on a bad network."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.world import FATES, Process, World, use_clock
from upstash_state import logs

STEPS = 60


class Story:
    """One run.

    Args:
        seed: What decides everything in it.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World(self.random.randrange, slow_serializer=bool(seed % 2))
        self.world.fate = self._fate  # type: ignore[method-assign]
        self.world.redis.msetex = seed % 3 != 0
        self.rate = self.random.choice([0.0, 0.1, 0.4])
        for number, background in enumerate([0.0, 0.0, 1.0, 1.0][: self.random.randint(1, 4)]):
            self.world.process("abcd"[number], background)
        # Without scripts, what another process wrote meanwhile is overwritten.
        self.world.redis.scripts = seed % 2 == 0 or len(self.world.processes) > 1
        self.orders = [f"k{number}" for number in range(self.random.choice([1, 3, 20]))]
        self.writes = 0

    def run(self) -> None:
        for _ in range(STEPS):
            self._act(self.random.choice(self.world.processes))
            for _ in range(self.random.randint(0, 6)):
                self.world.step()
        self.world.settle()
        commands = self.world.redis.commands
        assert commands <= 6 * self.writes + 10, f"{commands} commands for {self.writes} writes"

    def _fate(self) -> str:
        world, random = self.world, self.random
        if world.quiet:
            return "arrives"
        if world.now < world.down_until:
            return "refused"
        return random.choice(FATES) if random.random() < self.rate else "arrives"

    def _act(self, process: Process) -> None:
        world, random = self.world, self.random
        busy = any(thread.process is process and not thread.done for thread in world.threads)
        action = random.random()
        if process.ending:
            return
        if action < 0.55:
            self._save(process, 1)
        elif action < 0.65:
            self._save(process, random.randint(2, len(self.orders) + 1))
        elif action < 0.75:
            world.start(process, lambda: process.delivery._send_due(None, fresh=True))
        elif action < 0.85:
            world.now += random.choice([0.1, 2.0, 12.0, 70.0])
        elif action < 0.9:
            process.stopped_until = world.now + 15.0
        elif action < 0.95:
            world.down_until = world.now + random.choice([1.0, 20.0])
        elif not busy:
            process.ending = True
            world.start(process, process.restart)

    def _save(self, process: Process, number: int) -> None:
        orders = self.random.sample(self.orders, min(number, len(self.orders)))
        texts: dict[str, str | None] = {}
        for order in orders:
            self.writes += 1
            texts[order] = None if self.random.random() < 0.2 else f"{process.name}{self.writes}"
        self.world.start(process, lambda: process.save(texts))


def runs(monkeypatch: pytest.MonkeyPatch, seeds: range) -> None:
    """Run the stories of some seeds."""
    monkeypatch.setattr(logs.log.logger, "disabled", True)
    for seed in seeds:
        story = Story(seed)
        use_clock(monkeypatch, story.world.clock)
        try:
            story.run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("start", range(0, 200, 100))
def test_long_runs(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    runs(monkeypatch, range(start, start + 100))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 7000, 1000))
def test_more_long_runs(monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    runs(monkeypatch, range(start, start + 1000))
