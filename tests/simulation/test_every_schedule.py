"""Every schedule of up to three writes of one order, with faults of the network."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.simulation.world import World, use_clock
from upstash_state import logs

# A letter is a process, a capital one deletes. Each call has a thread of its own.
TWO = ["aa", "ab", "aA", "Aa", "aB", "Ab"]
THREE = ["aaa", "aab", "aba", "aAa", "aaA", "Aaa", "aBa", "abb"]
SINGLE = [(), ("late",), ("lost",), ("unanswered",), ("refused",), ("retried",), ("full",)]
SEVERAL = [*itertools.combinations(("late", "lost", "refused"), 2), ("late", "lost", "refused")]


class Choices:
    """Makes every sequence of choices once, one run after the other."""

    def __init__(self) -> None:
        self._made: list[int] = []
        self._options: list[int] = []
        self._next = 0

    def choose(self, options: int) -> int:
        if options < 2:
            return 0
        if self._next == len(self._made):
            self._made.append(0)
            self._options.append(options)
        assert self._options[self._next] == options
        self._next += 1
        return self._made[self._next - 1]

    def runs(self) -> Iterator[int]:
        """Yield the number of each run, until all sequences were made."""
        for number in itertools.count():
            self._next = 0
            yield number
            del self._made[self._next :], self._options[self._next :]
            while self._made and self._made[-1] + 1 == self._options[-1]:
                self._made.pop()
                self._options.pop()
            if not self._made:
                return
            self._made[-1] += 1


def run_all(
    monkeypatch: pytest.MonkeyPatch,
    calls: str,
    faults: Sequence[str],
    *,
    slow_serializer: bool = False,
    coarse: bool = False,
    together: bool = False,
) -> int:
    """Run every schedule.

    Args:
        calls: Who writes.
        faults: What happens to a request, each of them once.
        slow_serializer: Whether threads stop between being called and putting their write.
        coarse: Whether threads do not stop between a request's execution and its answer.
        together: Whether each call saves another order as well.

    Returns:
        How many there were.
    """
    choices = Choices()
    count = 0
    for count in choices.runs():  # noqa: B007
        world = World(choices.choose, faults, slow_serializer=slow_serializer, coarse=coarse)
        use_clock(monkeypatch, world.clock)
        monkeypatch.setattr(logs.log.logger, "disabled", True)
        processes = {name: world.process(name) for name in sorted(set(calls.lower()))}
        for call, letter in enumerate(calls):
            process = processes[letter.lower()]
            texts = {"k": f"{letter}{call}" if letter.islower() else None}
            if together:
                texts[f"other {call}"] = "other"
            world.start(process, _save(process.save, texts))
        try:
            world.settle()
            commands = world.redis.commands
            assert commands <= 6 * len(calls) * (1 + together), f"{commands} commands"
        except AssertionError as error:
            raise AssertionError(f"{error}; choices {choices._made}") from error
    return count + 1


def _save(save: Callable[..., None], texts: dict[str, str | None]) -> Callable[[], None]:
    return lambda: save(texts)


def ids(faults: Sequence[str]) -> str:
    return " and ".join(faults) or "no fault"


@pytest.mark.parametrize("faults", SINGLE, ids=ids)
@pytest.mark.parametrize("calls", TWO)
def test_two_writes(monkeypatch: pytest.MonkeyPatch, calls: str, faults: Sequence[str]) -> None:
    assert run_all(monkeypatch, calls, faults) >= 6


@pytest.mark.parametrize("faults", SINGLE, ids=ids)
def test_two_bulk_saves(monkeypatch: pytest.MonkeyPatch, faults: Sequence[str]) -> None:
    assert run_all(monkeypatch, "aa", faults, together=True) >= 6


def test_two_writes_that_are_serialized_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_all(monkeypatch, "aa", (), slow_serializer=True) >= 20


@pytest.mark.parametrize("faults", [(), ("late",)], ids=ids)
def test_three_writes(monkeypatch: pytest.MonkeyPatch, faults: Sequence[str]) -> None:
    assert run_all(monkeypatch, "aab", faults, coarse=True) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("faults", SEVERAL, ids=ids)
@pytest.mark.parametrize("calls", TWO)
def test_two_writes_and_several_faults(
    monkeypatch: pytest.MonkeyPatch, calls: str, faults: Sequence[str]
) -> None:
    assert run_all(monkeypatch, calls, faults) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("faults", [*SINGLE, *SEVERAL], ids=ids)
@pytest.mark.parametrize("calls", THREE)
def test_three_writes_and_faults(
    monkeypatch: pytest.MonkeyPatch, calls: str, faults: Sequence[str]
) -> None:
    assert run_all(monkeypatch, calls, faults, coarse=True) >= 50
