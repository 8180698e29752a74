"""How a process ends, and forks, while something is pending."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

TOKEN = "a-token-for-the-tests"


@pytest.fixture
def app(port: int, tmp_path: Path) -> Iterator[App]:
    app = App(port, tmp_path)
    yield app
    app.end()


class App:
    """A process that runs some code, says "ready", and goes on when told."""

    def __init__(self, port: int, folder: Path) -> None:
        self._folder = folder
        self._environ = {
            **os.environ,
            "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{port}",
            "UPSTASH_REDIS_REST_TOKEN": TOKEN,
            "UPSTASH_STATE_TIMEOUT": "10",
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self, code: str, **settings: str) -> None:
        begin = "import sys, os, logging\nfrom upstash_state import *\n"
        wait = "\ndef ready():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
        self.process = subprocess.Popen(
            # A process of several threads that forks is warned of by Python 3.12 and later.
            [sys.executable, "-W", "error", "-W", "ignore:This process", "-c", begin + wait + code],
            env={**self._environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go_on(self) -> tuple[int, str]:
        """Let it go on, and give its exit status and what it logged."""
        assert self.process is not None
        _, err = self.process.communicate("\n", timeout=60)
        return self.process.returncode, err

    def end(self) -> None:
        if self.process is not None:
            with self.process:
                if self.process.poll() is None:
                    self.process.kill()


def held(endpoint: LocalEndpoint) -> dict[str, str | None]:
    with UpstashRedis(endpoint.url, endpoint.token) as client:
        return {key: client.get(key) for key in client.scan_iter()}


@pytest.mark.parametrize(("method", "used"), [("fork", True), ("forkserver", False)])
def test_what_a_child_of_multiprocessing_has_pending_is_sent_at_its_end(
    app: App, port: int, method: str, used: bool
) -> None:
    code = f"""
import concurrent.futures, multiprocessing
context = multiprocessing.get_context({method!r})
if {used}: redis_save_order("parent", {{}})
ready()
child = context.Process(target=redis_save_order, args=("process", {{}}))
child.start()
child.join()
with context.Pool(1) as pool:
    pool.apply(redis_save_order, ("pool", {{}}))
    pool.close()
    pool.join()
with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    pool.submit(redis_save_order, "executor", {{}}).result()
"""
    app.start(code, UPSTASH_STATE_BACKGROUND="600")
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        assert app.go_on() == (0, "")
        sent = {key.removeprefix("order:") for key in held(endpoint)}
    assert sent == {"process", "pool", "executor", *["parent"][:used]}


def test_a_child_of_multiprocessing_that_uses_a_store_of_its_own_sends_too(
    app: App, port: int
) -> None:
    code = """
import multiprocessing
def work(): OrderStore.from_env().save("1", {})
ready()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""
    app.start(code, UPSTASH_STATE_BACKGROUND="600")
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        assert app.go_on() == (0, "")
        assert list(held(endpoint)) == ["order:1"]


def test_an_exit_hook_that_was_registered_before_the_import_may_save(app: App, port: int) -> None:
    code = """
import subprocess
ready()
late = "import atexit; atexit.register(lambda: redis_save_order('late', {}));"
late += "from upstash_state import redis_save_order; redis_save_order('early', {})"
subprocess.run([sys.executable, "-c", late], check=True)
"""
    app.start(code, UPSTASH_STATE_BACKGROUND="600")
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        assert app.go_on() == (0, "")
        assert sorted(held(endpoint)) == ["order:early", "order:late"]


@pytest.mark.parametrize("background", ["0", "600"])
def test_what_is_pending_at_exit_is_sent(app: App, port: int, background: str) -> None:
    # Nobody listens at first, so the save fails, or is accepted only.
    app.start("redis_save_order('1', {'n': 1})\nready()\n", UPSTASH_STATE_BACKGROUND=background)
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        status, log = app.go_on()
        assert status == 0
        assert "ResourceWarning" not in log
        assert held(endpoint) == {"order:1": '{"n": 1}'}


def test_what_cannot_be_sent_at_exit_is_named(app: App) -> None:
    app.start("redis_save_order('17', {'n': 1})\nready()\n", UPSTASH_STATE_TIMEOUT="1")
    status, log = app.go_on()
    assert status == 0
    assert "Not saved to Redis at exit: 17" in log


def test_two_lines_are_enough_for_sigterm(app: App, port: int) -> None:
    app.start(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "redis_save_order('1', {'n': 1})\n"
        "print('ready', flush=True)\n"
        # signal.pause would wait for ever for a signal that came just before it.
        "while True: time.sleep(0.05)\n",
        UPSTASH_STATE_BACKGROUND="600",
    )
    assert app.process is not None
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(60) == 0
        assert held(endpoint) == {"order:1": '{"n": 1}'}


def test_a_child_of_a_fork_has_nothing_pending_and_a_worker_of_its_own(app: App, port: int) -> None:
    app.start(
        "redis_save_order('parent', {})\n"
        "if not os.fork():\n"
        "    assert OrderStore.from_env().unsaved == ()\n"
        "    redis_save_order('child', {})\n"
        "    assert OrderStore.from_env().unsaved == ('child',)\n"
        "    ready()\n"
        "    assert redis_flush()\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "assert OrderStore.from_env().unsaved == ('parent',)\n"
        "os._exit(0)\n",
        UPSTASH_STATE_BACKGROUND="600",
    )
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        assert app.go_on() == (0, "")
        assert list(held(endpoint)) == ["order:child"]


def test_a_worker_ends_when_there_is_nothing_to_do(app: App, port: int) -> None:
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        app.start(
            "import threading\n"
            "from upstash_state import worker\n"
            "assert threading.active_count() == 1\n"
            "worker.IDLE = 0.01\n"
            "for n in range(3):\n"
            "    redis_save_order(str(n), {})\n"
            "    for thread in threading.enumerate():\n"
            "        if thread is not threading.current_thread(): thread.join(30)\n"
            "    assert threading.active_count() == 1\n"
            "ready()\n",
            UPSTASH_STATE_BACKGROUND="0.001",
        )
        assert app.go_on() == (0, "")
        assert len(held(endpoint)) == 3


def test_a_reset_sends_what_is_pending_once(app: App, port: int) -> None:
    app.start(
        "redis_save_order('1', {})\nready()\nreset_client()\n"
        "redis_save_order('2', {})\nreset_client(flush=False)\n",
        UPSTASH_STATE_BACKGROUND="600",
    )
    with LocalEndpoint(port=port, token=TOKEN) as endpoint:
        assert app.go_on() == (0, "")
        assert list(held(endpoint)) == ["order:1"]
