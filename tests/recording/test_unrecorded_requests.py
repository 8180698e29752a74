"""Real connections outside of recorded tests: none reaches the database."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from textwrap import dedent

import pytest

from tests.support.environ import Environ
from upstash_state.recording.file import dump

from .plugin import LOCALLY, alone, outcomes

pytest_plugins = ["pytester"]

RECORDED = """
    import pytest

    @pytest.mark.upstash_recording
    def test_recorded():
        pass
"""
HOST = "database.example"
# No name server is asked: it is noted that one would have been.
LOOKUP = f"""
import pathlib, socket

real = socket.getaddrinfo

def getaddrinfo(host, *args, **kwargs):
    if host != "{HOST}":
        return real(host, *args, **kwargs)
    pathlib.Path(r"{{file}}").touch()
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

socket.getaddrinfo = getaddrinfo
"""
Asked = Callable[[], bool]


@pytest.fixture(autouse=True)
def asked(pytester: pytest.Pytester, environ: Environ, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Whether the database was asked for that the developer's environment names."""
    file = pytester.mkdir(".site") / "asked"
    code = LOOKUP.format(file=file)
    (file.parent / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(file.parent))
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)
    exec(code, {})
    environ.use(f"https://{HOST}", "a-token-of-no-account")
    # Retries would wait.
    monkeypatch.setattr("upstash_state.transport.exchange.RETRIES", 0)

    def was_asked() -> bool:
        found = file.exists()
        file.unlink(missing_ok=True)
        return found

    return was_asked


FIXTURE = """
    @pytest.fixture(scope="{scope}", autouse=True)
    def stored():
        redis_save_order("1", {{}})
        yield
        redis_delete_order("1")
"""
CASES = {
    "a fixture of the session": (
        FIXTURE.format(scope="session"),
        "stored in test_app.py, line 6; test_app.py::test_recorded (setup)",
    ),
    "a fixture of the module": (
        FIXTURE.format(scope="module"),
        "stored in test_app.py, line 6; test_app.py::test_recorded (setup)",
    ),
    "a fixture that calls the app": (
        """
    def load():
        redis_save_order("1", {})

    @pytest.fixture(scope="module", autouse=True)
    def stored():
        load()
        """,
        "load in test_app.py, line 5, called from stored in test_app.py, line 9; *",
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
        "setUpClass in test_app.py, line 9; test_app.py::TestCase::test (setup)",
    ),
    "setup_module": (
        """
    def setup_module():
        redis_save_order("1", {})
        """,
        "setup_module in test_app.py, line 5; test_app.py::test_recorded (setup)",
    ),
    "import of a test": (
        """
    redis_save_order("1", {})
        """,
        "import in test_app.py, line 4",
    ),
    "a coroutine in a fixture": (
        """
    import asyncio
    from upstash_state import aio

    @pytest.fixture(scope="module", autouse=True)
    def stored():
        asyncio.run(aio.redis_save_order("1", {}))
        """,
        "test_app.py::test_recorded (setup); thread *, which outlives its test",
    ),
    "a test without a recording": (
        """
    def test():
        redis_save_order("1", {})
        """,
        "test in test_app.py, line 5; test_app.py::test (call)",
    ),
}


def recorded_nothing(pytester: pytest.Pytester, module: str) -> None:
    file = pytester.path / "recordings" / module / "test_recorded.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(dump([]))


def refused(where: str) -> str:
    return f"connection refused outside of a recorded test: {where}. Record the test with *"


@pytest.mark.parametrize("case", CASES)
def test_they_are_refused_and_named(pytester: pytest.Pytester, asked: Asked, case: str) -> None:
    code, named = CASES[case]
    imports = "import pytest\n    from upstash_state import redis_delete_order, redis_save_order\n"
    pytester.makepyfile(test_app=f"    {imports}{code}{RECORDED}")
    pytester.runpytest(*LOCALLY)
    result = pytester.runpytest()
    assert set(outcomes(result)) == {"passed"}
    assert not asked()
    result.stdout.fnmatch_lines(["*= upstash_state =*", refused(named)])
    result.stdout.fnmatch_lines([f"*, or allow the connection with --upstash-allow={HOST}"])
    assert set(outcomes(pytester.runpytest("--upstash-allow=other,*.example"))) == {"passed"}
    assert asked()


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


MOCKS = """
    import json
    import pytest
    import requests
    import responses
    from requests.adapters import HTTPAdapter
    from upstash_state import redis_get_order, redis_save_order
    from upstash_state.local import LocalEndpoint

    def test_responses():
        with responses.RequestsMock() as mock:
            mock.post("https://database.example", json={"result": "OK"})
            assert redis_save_order("1", {})

    def test_an_own_fake(monkeypatch):
        def send(self, request, **kwargs):
            answer = requests.Response()
            answer.status_code, answer._content = 200, b'{"result": "OK"}'
            return answer

        monkeypatch.setattr(HTTPAdapter, "send", send)
        assert redis_save_order("1", {})

    def test_a_loopback_server(monkeypatch):
        with LocalEndpoint() as endpoint:
            monkeypatch.setenv("UPSTASH_REDIS_REST_URL", endpoint.url)
            monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", endpoint.token)
            assert redis_save_order("1", {})
            assert redis_get_order("1") == {}
"""


@pytest.mark.parametrize("option", ["", "upstash_block_network = true"])
def test_mocks_and_loopback_servers_work_beside_recorded_tests(
    pytester: pytest.Pytester, asked: Asked, option: str
) -> None:
    pytester.makeini(f"[pytest]\n{option}")
    pytester.makepyfile(test_mocks=MOCKS, test_recorded=RECORDED)
    for arguments in (LOCALLY, ()):
        result = pytester.runpytest(*arguments)
        assert outcomes(result) == {"passed": 4}
        result.stdout.no_fnmatch_line("connection refused*")
    assert not asked()


@pytest.mark.parametrize("importer", ["conftest", "test_app"])
def test_an_app_that_restores_its_state_when_it_is_imported(
    pytester: pytest.Pytester, asked: Asked, importer: str
) -> None:
    """In a process of its own, and before pytest knows which tests are recorded."""
    pytester.makepyfile(
        **{
            "app": """
                from upstash_state import redis_get_all_orders

                STATE = redis_get_all_orders()
            """,
            importer: "import app",
            "test_zebra": RECORDED,
        }
    )
    recorded_nothing(pytester, "test_zebra")
    result = alone(pytester)
    assert not asked()
    where = f"import in app.py, line 3, called from import in {importer}.py, line 1"
    result.stdout.fnmatch_lines([refused(where)])


CONNECTING = """
    import pytest
    from upstash_state import redis_save_order

    redis_save_order("1", {})

    @pytest.fixture(scope="module")
    def stored():
        redis_save_order("1", {})

    def test(stored):
        redis_save_order("1", {})
"""


@pytest.mark.slow
def test_without_recordings_connections_are_refused_only_if_the_ini_file_says_so(
    pytester: pytest.Pytester, asked: Asked
) -> None:
    folder = pytester.mkdir("recordings") / "of music"
    folder.mkdir()
    (folder / "song.yaml").write_text("format: mp3")
    pytester.makepyfile(test_app=CONNECTING)
    result = alone(pytester)
    assert outcomes(result) == {"passed": 1}
    assert asked()
    result.stdout.no_fnmatch_line("connection refused*")
    pytester.makeini("[pytest]\nupstash_block_network = true")
    for test in ("test_app.py", "test_app.py::test"):
        result = alone(pytester, test)
        assert outcomes(result) == {"passed": 1}
        assert not asked()
        result.stdout.fnmatch_lines(
            [
                refused("import in test_app.py, line 4"),
                refused("stored in test_app.py, line 8; test_app.py::test (setup)"),
                refused("test in test_app.py, line 11; test_app.py::test (call)"),
            ]
        )


def test_what_an_app_saves_at_exit_is_refused(pytester: pytest.Pytester, asked: Asked) -> None:
    pytester.makepyfile(
        app="""
        import atexit, threading
        from upstash_state import redis_save_order

        def save():
            print("saved:", redis_save_order("1", {}))

        def save_when_the_main_thread_has_ended():
            threading.main_thread().join(30)
            save()

        atexit.register(save)
        threading.Thread(target=save_when_the_main_thread_has_ended).start()
        """,
        test_app=f"import app\n{dedent(RECORDED)}",
    )
    recorded_nothing(pytester, "test_app")
    result = alone(pytester, "-s")
    result.stdout.fnmatch_lines(["saved: False", "saved: False"])
    assert not asked()


def test_what_an_app_saves_at_exit_after_a_replay_with_unittest_is_refused(
    pytester: pytest.Pytester, asked: Asked
) -> None:
    (pytester.path / "r.yaml").write_text(dump([]))
    pytester.makepyfile(
        shop_tests="""
        import atexit, unittest
        from upstash_state import redis_save_order
        from upstash_state.recording import recording

        atexit.register(lambda: print("saved:", redis_save_order("1", {})))

        class Test(unittest.TestCase):
            @recording("r.yaml")
            def test(self):
                pass

            @recording("r.yaml")
            def test_another(self):
                with recording("r.yaml"):
                    pass
        """
    )
    result = pytester.run(sys.executable, "-m", "unittest", "-q", "shop_tests")
    result.stdout.fnmatch_lines(["saved: False"])
    result.stderr.fnmatch_lines(["*connection refused at exit, since this process replayed *"])
    assert not asked()


def test_a_thread_that_outlives_its_test(pytester: pytest.Pytester, asked: Asked) -> None:
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
    assert not asked()
    where = (
        "work in test_app.py, line 9; test_app.py::test_other (call); thread 'left over', which *"
    )
    result.stdout.fnmatch_lines([f"connection refused outside of a recorded test: {where}"])
    # In another recorded test it is that one's, which names it.
    test = pytester.path / "test_app.py"
    code = test.read_text().replace("def test_other", "@pytest.mark.upstash_recording\ndef test_2")
    test.write_text(code)
    (pytester.path / "recordings" / "test_app" / "test_2.yaml").write_text(dump([]))
    result = pytester.runpytest()
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["not recorded (SET order:1, by thread left over)"])


def test_pools_of_threads_that_live_on_replay(pytester: pytest.Pytester) -> None:
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
    pytester: pytest.Pytester, asked: Asked
) -> None:
    pytest.importorskip("xdist")
    code, _ = CASES["a fixture of the module"]
    imports = "import pytest\n    from upstash_state import redis_delete_order, redis_save_order\n"
    pytester.makepyfile(test_app=f"    {imports}{code}{RECORDED}")
    pytester.runpytest(*LOCALLY)
    result = pytester.runpytest_subprocess("-n1")
    assert outcomes(result) == {"passed": 1}
    assert not asked()
    result.stdout.fnmatch_lines([refused("stored in test_app.py*")])
