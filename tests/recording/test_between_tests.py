"""What one test leaves over, no other test meets: no pending write, circuit or memory."""

from __future__ import annotations

import sys

import pytest

from .plugin import LOCALLY, alone, outcomes
from .test_unrecorded_requests import Asked
from .test_unrecorded_requests import asked as asked

pytest_plugins = ["pytester"]

# A suite without recordings, whose mocks fail when they are asked for more than they have.
MOCKED = """
    import pytest
    import requests
    import responses
    from upstash_state import redis_get_order, redis_save_order

    URL = "https://database.example"

    @pytest.fixture
    def mock():
        with responses.RequestsMock() as mock:
            yield mock

    def test_a_save_fails(mock):
        mock.post(URL, status=400, json={"error": "ERR max daily request limit exceeded"})
        assert not redis_save_order("1", {"left": "over"})

    def test_it_is_not_sent_in_the_next_test(mock):
        mock.post(URL, json={"result": None})
        assert redis_get_order("1") is None
        assert len(mock.calls) == 1

    def test_the_circuit_opens(mock):
        mock.post(URL, body=requests.exceptions.InvalidURL("broken"))
        for _ in range(4):
            assert not redis_save_order("1", {})
        assert len(mock.calls) == 3

    def test_it_is_closed_in_the_next_test(mock):
        mock.post(URL, json={"result": "OK"})
        assert redis_save_order("1", {})

    def test_an_unchanged_order_is_sent_again_in_the_next_test(mock):
        mock.post(URL, json={"result": "OK"})
        assert redis_save_order("1", {})
        assert redis_save_order("1", {})
        assert len(mock.calls) == 1

    def test_the_last_save_fails(mock):
        mock.post(URL, status=400, json={"error": "ERR max daily request limit exceeded"})
        assert not redis_save_order("1", {"left": "over"})
"""


def test_mocks_are_asked_only_for_what_their_own_test_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_SKIP_UNCHANGED", "60")
    pytester.makepyfile(test_mocks=MOCKED)
    assert outcomes(pytester.runpytest()) == {"passed": 6}


@pytest.mark.slow
def test_a_pending_save_of_the_last_test_reaches_no_database_at_exit(
    pytester: pytest.Pytester, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_SKIP_UNCHANGED", "60")
    pytester.makepyfile(test_mocks=MOCKED)
    assert outcomes(alone(pytester, "-k", "last_save")) == {"passed": 1, "deselected": 5}
    assert not asked()


@pytest.mark.slow
def test_a_pending_save_of_a_hook_reaches_no_database_at_exit(
    pytester: pytest.Pytester, asked: Asked
) -> None:
    pytester.makepyfile("def test(): pass")
    pytester.makeconftest(
        """
        import responses
        from upstash_state import redis_save_order

        def pytest_sessionfinish():
            with responses.RequestsMock() as mock:
                mock.post("https://database.example", status=400, json={"error": "ERR full"})
                assert not redis_save_order("1", {"left": "over"})
        """
    )
    assert outcomes(alone(pytester)) == {"passed": 1}
    assert not asked()


@pytest.mark.slow
def test_a_background_save_reaches_neither_the_next_test_nor_a_database(
    pytester: pytest.Pytester, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_BACKGROUND", "3600")
    pytester.makepyfile(
        test_app="""
        import responses
        from upstash_state import redis_flush, redis_save_order

        def test_save():
            assert redis_save_order("1", {})

        def test_nothing_is_pending():
            with responses.RequestsMock():
                assert redis_flush()

        def test_save_again():
            assert redis_save_order("1", {})
        """
    )
    assert outcomes(alone(pytester)) == {"passed": 3}
    assert not asked()


def test_what_fixtures_of_a_module_recorded_is_there_in_its_tests(
    pytester: pytest.Pytester,
) -> None:
    """The client is another one in each test. What it saved is in the endpoint."""
    pytester.makepyfile(
        test_app="""
        import pytest
        from upstash_state import get_redis_client, redis_get_order, redis_save_order

        pytestmark = pytest.mark.upstash_recording(scope="module")

        @pytest.fixture(scope="module", autouse=True)
        def client():
            assert redis_save_order("1", {})
            yield get_redis_client()
            assert redis_save_order("2", {})

        @pytest.mark.parametrize("n", range(2))
        def test(client, n):
            assert redis_get_order("1") == {}
            assert client.ping()
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2}
    assert outcomes(pytester.runpytest()) == {"passed": 2}


@pytest.mark.slow
def test_a_run_that_does_not_use_the_package_starts_no_thread_and_opens_no_socket(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test(): pass")
    pytester.makeconftest(
        """
        import sys, threading

        def refuse(event, args):
            assert event != "socket.__new__" and "thread" not in event, event

        def pytest_configure():
            sys.addaudithook(refuse)

        def pytest_unconfigure():
            assert threading.active_count() == 1
            heavy = {"requests", "urllib3", "yaml", "upstash_state.recording"}
            assert not heavy & sys.modules.keys()
        """
    )
    result = pytester.run(sys.executable, "-m", "pytest", "-q", "-p", "no:anyio", "-p", "no:xdist")
    assert result.ret == 0, result.stderr.str()


@pytest.mark.slow
def test_a_test_that_is_not_recorded_costs_next_to_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in calls, returns and calls of C functions, since time differs on a busy machine."""
    pytester.makepyfile(
        counting="""
        import sys

        events = 0

        def count(frame, event, arg):
            global events
            events += 1

        def pytest_configure():
            sys.setprofile(count)

        def pytest_unconfigure():
            sys.setprofile(None)
            print("events:", events)
        """,
        test_many="""
        import os, pytest

        @pytest.mark.parametrize("n", range(int(os.environ["TESTS"])))
        def test(n):
            pass
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))

    def events(tests: int, *arguments: str) -> int:
        monkeypatch.setenv("TESTS", str(tests))
        options = ("-q", "-s", "-p", "counting", *arguments)
        (line,) = (x for x in alone(pytester, *options).outlines if x.startswith("events:"))
        return int(line.split()[1])

    without = ("-p", "no:upstash_state")
    added = [events(tests) - events(tests, *without) for tests in (10, 210)]
    assert (added[1] - added[0]) / 200 < 150
