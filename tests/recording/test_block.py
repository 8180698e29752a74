"""`recording` as a decorator: what it can cover, it covers; what it cannot is refused."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from upstash_state import aio, redis_save_order
from upstash_state.local import LocalEndpoint
from upstash_state.recording import RecordingMismatchError, recording
from upstash_state.recording.file import load
from upstash_state.recording.recorder import in_use


@pytest.fixture
def path(tmp_path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", endpoint.url)
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", endpoint.token)
    return tmp_path / "r.yaml"


def test_a_coroutine_function_is_covered_while_it_is_awaited(
    path: Path, endpoint: LocalEndpoint
) -> None:
    async def save(order: dict[str, Any]) -> str:
        """Docs."""
        await asyncio.sleep(0)
        assert await aio.redis_save_order("1", order)
        return "done"

    made = recording(path, mode="once")(save)
    assert (made.__name__, made.__doc__) == ("save", "Docs.")
    coroutine = made({"n": 1})
    assert in_use == []
    assert asyncio.run(coroutine) == "done"
    (saved,) = load(path.read_text())
    assert saved.request.commands[0][:2] == ("SET", "order:1")
    for _ in range(2):
        assert asyncio.run(recording(path)(save)({"n": 1})) == "done"
    with pytest.raises(AssertionError):
        asyncio.run(recording(path)(save)({"n": 2}))
    assert endpoint.usage().requests == 1


def test_unittests_coroutines_are_covered(path: Path) -> None:
    class Test(unittest.IsolatedAsyncioTestCase):
        @recording(path, mode="all")
        async def test(self) -> None:
            assert await aio.redis_save_order("1", {})

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Test).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert len(load(path.read_text())) == 1


def failing_subtest(case: unittest.TestCase, fails: bool) -> None:
    for number in range(3):
        with case.subTest(number=number):
            assert redis_save_order(str(number), {})
            assert not (fails and number == 1)


@pytest.mark.parametrize("how", ["decorated", "block", "coroutine"])
def test_a_test_with_a_failing_subtest_is_not_recorded(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Test(unittest.TestCase):
        fails = True

        @recording(path, mode="all")
        def decorated(self) -> None:
            failing_subtest(self, self.fails)

        def block(self) -> None:
            with recording(path, mode="all"):
                failing_subtest(self, self.fails)

    class AsyncTest(unittest.IsolatedAsyncioTestCase):
        fails = True

        @recording(path, mode="all")
        async def coroutine(self) -> None:
            await asyncio.sleep(0)
            failing_subtest(self, self.fails)

    case = AsyncTest if how == "coroutine" else Test
    result = unittest.TestResult()
    case(how).run(result)
    assert len(result.failures) == 1
    assert not path.exists()
    assert f"{path} is not written, because the test did not pass" in caplog.text
    case.fails = False
    result = unittest.TestResult()
    case(how).run(result)
    assert result.wasSuccessful()
    assert len(load(path.read_text())) == 3
    # A test that has failed before is no reason.
    with recording(path, mode="all"):
        redis_save_order("1", {})
    assert len(load(path.read_text())) == 1


def test_a_class_is_refused(path: Path) -> None:
    with pytest.raises(TypeError, match="Test would run after the recording has ended: decorate"):

        @recording(path)
        class Test(unittest.TestCase):
            pass


def test_generators_are_refused(path: Path) -> None:
    def generator() -> Iterator[None]:
        yield

    async def async_generator() -> AsyncIterator[None]:
        yield

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="generator would run after the recording has ended"):
            recording(path)(function)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_what_hides_its_kind_is_refused_when_it_is_called(path: Path) -> None:
    async def coroutine() -> None:
        raise AssertionError

    def generator() -> Iterator[None]:
        yield

    async def async_generator() -> AsyncIterator[None]:
        yield

    for function in (coroutine, generator, async_generator):

        def hidden(function: Any = function) -> Any:
            return function()

        with pytest.raises(TypeError, match="hidden would run after the recording has ended"):
            recording(path, mode="all")(hidden)()
    assert not path.exists()


def test_each_call_is_a_replay_of_its_own(path: Path) -> None:
    @recording(path, mode="once")
    def save() -> bool:
        return redis_save_order("1", {})

    assert [save() for _ in range(3)] == [True] * 3
    block = recording(path)
    for _ in range(2):
        with block as replayed:
            assert replayed.replays
            redis_save_order("1", {})
    with pytest.raises(RecordingMismatchError), block:
        pass
