"""Requests outside of recorded tests, in a run that has some: none reaches the database."""

from __future__ import annotations

import pytest

from tests.support.environ import Environ
from upstash_state.local import LocalEndpoint

from .plugin import LOCALLY, outcomes

pytest_plugins = ["pytester"]

RECORDED = """
    import pytest

    @pytest.mark.upstash_recording
    def test_recorded():
        pass
"""


@pytest.fixture(autouse=True)
def database(endpoint: LocalEndpoint, environ: Environ) -> LocalEndpoint:
    """What the developer's environment names, and what no replay may reach."""
    environ.use(endpoint.url, endpoint.token)
    return endpoint


FIXTURE = """
    @pytest.fixture(scope="{scope}", autouse=True)
    def stored():
        redis_save_order("1", {{}})
        yield
        redis_delete_order("1")
"""
OF_A_FIXTURE = "Let the fixture have the scope of a recorded test, or record it with*"
CASES = {
    "a fixture of the session": (FIXTURE.format(scope="session"), f"stored in *. {OF_A_FIXTURE}"),
    "a fixture of the module": (FIXTURE.format(scope="module"), f"stored in *. {OF_A_FIXTURE}"),
    "a fixture that calls the app": (
        """
    def load():
        redis_save_order("1", {})

    @pytest.fixture(scope="module", autouse=True)
    def stored():
        load()
        """,
        "load in test_app.py, line 5, called from stored in test_app.py, line 9. Let *",
    ),
    "setUpClass": (
        """
    import unittest

    class TestCase(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            redis_save_order("1", {})

        def test(self):
            pass
        """,
        f"setUpClass in test_app.py, line 9. {OF_A_FIXTURE}",
    ),
    "setup_module": (
        """
    def setup_module():
        redis_save_order("1", {})
        """,
        f"setup_module in test_app.py, line 5. {OF_A_FIXTURE}",
    ),
    "import of a test": (
        """
    redis_save_order("1", {})
        """,
        "import of test_app.py, line 4. Call it in a function that a recorded test or its *",
    ),
    "a coroutine in a fixture": (
        """
    import asyncio
    from upstash_state import aio

    @pytest.fixture(scope="module", autouse=True)
    def stored():
        asyncio.run(aio.redis_save_order("1", {}))
        """,
        "thread * (test_app.py::test_recorded (setup)). Mark the test that uses it with *",
    ),
    "a test without a recording": (
        """
    def test():
        redis_save_order("1", {})
        """,
        "test in test_app.py, line 5. Mark the test with @pytest.mark.upstash_recording, or *",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_refused_and_named(
    pytester: pytest.Pytester, database: LocalEndpoint, case: str
) -> None:
    code, named = CASES[case]
    imports = "import pytest\n    from upstash_state import redis_delete_order, redis_save_order\n"
    pytester.makepyfile(test_app=f"    {imports}{code}{RECORDED}")
    pytester.runpytest(*LOCALLY)
    assert database.usage().requests == 0
    result = pytester.runpytest()
    assert set(outcomes(result)) == {"passed"}
    assert database.usage().requests == 0
    result.stdout.fnmatch_lines(
        ["*= upstash_state =*", f"refused outside of a recorded test: {named}"]
    )
    result.stdout.fnmatch_lines(["*or let it through with --upstash-allow=127.0.0.1"])
    assert set(outcomes(pytester.runpytest("--upstash-allow=other,127.0.0.*"))) == {"passed"}
    assert database.usage().requests > 0


def test_the_log_says_why(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        from upstash_state import redis_save_order

        def test(caplog):
            assert not redis_save_order("1", {})
            assert "refused outside of a recorded test: test in test_app.py" in caplog.text
        """,
        test_recorded=RECORDED,
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2}


@pytest.mark.parametrize("importer", ["conftest", "test_app"])
@pytest.mark.parametrize("mentioned", [RECORDED, "from upstash_state.recording import recording"])
def test_an_app_that_restores_its_state_when_it_is_imported(
    pytester: pytest.Pytester, database: LocalEndpoint, importer: str, mentioned: str
) -> None:
    """In a process of its own, and before pytest knows which tests are recorded."""
    pytester.makepyfile(
        **{
            "app": """
                from upstash_state import redis_get_all_orders

                STATE = redis_get_all_orders()
            """,
            importer: "import app",
            "test_zebra": mentioned,
        }
    )
    result = pytester.runpytest_subprocess("--upstash-record=none")
    assert database.usage().requests == 0
    result.stdout.fnmatch_lines(
        [
            "refused outside of a recorded test: import of app.py, line 3, called from import of "
            f"{importer}.py, line 1. Call it in a function that a recorded test or its fixture *"
        ]
    )


@pytest.mark.slow
def test_without_recordings_nothing_is_refused(
    pytester: pytest.Pytester, database: LocalEndpoint
) -> None:
    for elsewhere in (".hidden", "node_modules", "an_environment"):
        folder = pytester.mkdir(elsewhere)
        (folder / "plugin.py").write_text("MARKER = 'upstash_recording'")
    (folder / "pyvenv.cfg").touch()
    pytester.makepyfile(
        test_app="""
        import pytest
        from upstash_state import redis_save_order

        assert redis_save_order("1", {})

        @pytest.fixture(scope="module")
        def stored():
            assert redis_save_order("1", {})

        def test(stored):
            assert redis_save_order("1", {})
        """
    )
    result = pytester.runpytest_subprocess()
    assert outcomes(result) == {"passed": 1}
    assert database.usage().requests == 3
    result.stdout.no_fnmatch_line("refused*")


def test_a_thread_that_outlives_its_test(
    pytester: pytest.Pytester, database: LocalEndpoint
) -> None:
    pytester.makepyfile(
        test_app="""
        import threading
        import pytest
        from upstash_state import redis_save_order

        go_on = threading.Event()

        def work():
            go_on.wait(30)
            redis_save_order("1", {})

        thread = threading.Thread(target=work, name="left over")

        @pytest.mark.upstash_recording
        def test_starts_it():
            thread.start()

        def test_other():
            go_on.set()
            thread.join(30)
        """
    )
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 2}
    assert database.usage().requests == 0
    result.stdout.fnmatch_lines(
        ["*: thread 'left over' (work in test_app.py, line 9). Mark the test that uses it with *"]
    )
    # In another recorded test it is that one's, which names it.
    test = pytester.path / "test_app.py"
    code = test.read_text().replace("def test_other", "@pytest.mark.upstash_recording\ndef test_2")
    test.write_text(code)
    (pytester.path / "recordings" / "test_app" / "test_2.yaml").write_text(
        "format: 1\nexchanges: []\n"
    )
    result = pytester.runpytest()
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["Sent by threads that were running before*", "  left over"])


def test_pools_of_threads_that_live_on_are_no_strangers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        from concurrent.futures import ThreadPoolExecutor
        import pytest
        from upstash_state import redis_save_order

        pytestmark = pytest.mark.upstash_recording
        pool = ThreadPoolExecutor(1)

        def test_first():
            assert pool.submit(redis_save_order, "1", {}).result(30)

        def test_second():
            assert pool.submit(redis_save_order, "2", {}).result(30)
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2}
    assert outcomes(pytester.runpytest()) == {"passed": 2}


@pytest.mark.slow
def test_what_a_worker_refuses_is_said_by_xdist_too(
    pytester: pytest.Pytester, database: LocalEndpoint
) -> None:
    pytest.importorskip("xdist")
    code, _ = CASES["a fixture of the module"]
    imports = "import pytest\n    from upstash_state import redis_delete_order, redis_save_order\n"
    pytester.makepyfile(test_app=f"    {imports}{code}{RECORDED}")
    pytester.runpytest(*LOCALLY)
    result = pytester.runpytest_subprocess("-n1")
    assert outcomes(result) == {"passed": 1}
    assert database.usage().requests == 0
    result.stdout.fnmatch_lines(["refused outside of a recorded test: stored in test_app.py*"])
