"""What happens to a process: what an import costs it, forks, and what a call leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.environ import Environ
from upstash_state import UpstashRedis, redis_save_order, registry
from upstash_state.local import LocalEndpoint

pytestmark = pytest.mark.usefixtures("credentials")


@pytest.fixture
def credentials(endpoint: LocalEndpoint, environ: Environ) -> None:
    """The environment names the endpoint."""
    environ.use(endpoint.url, endpoint.token)


def run(code: str, **environ: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_an_import_loads_no_dependency_opens_nothing_and_reads_no_environment() -> None:
    code = """
import sys
events = []
sys.addaudithook(lambda event, args: events.append(event))
import json, logging, os
# What these load themselves differs from Python to Python.
before = set(sys.modules)
class Environ(dict):
    def __getitem__(self, key): raise AssertionError(key)
    get = __getitem__
os.environ = Environ()
import upstash_state, threading
print(json.dumps([
    sorted({"requests", "urllib3", "dataclasses", "ssl", "random"} & set(sys.modules) - before),
    sorted({event for event in events if event.startswith("socket.")}),
    threading.active_count(),
]))
"""
    assert json.loads(run(code)) == [[], [], 1]


def test_an_import_needs_no_random_numbers() -> None:
    # Cloudflare's Workers refuse them until the first request.
    assert run("import os; os.urandom = None; import upstash_state, upstash_state.aio") == ""


def test_the_caller_that_creates_the_first_client_imports_requests(endpoint: LocalEndpoint) -> None:
    code = """
import sys, upstash_state
upstash_state.redis_save_order("1", {})
print("requests" in sys.modules)
upstash_state.reset_client(flush=False)
"""
    # The worker would wait for an hour.
    assert run(code, UPSTASH_STATE_BACKGROUND="3600") == "True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_while_requests_is_imported_does_not_hang_the_child(
    endpoint: LocalEndpoint,
) -> None:
    code = """
import os, signal, sys, threading, warnings
from upstash_state import UpstashRedis
warnings.simplefilter("ignore", DeprecationWarning)
begun, go_on = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "requests":
            begun.set()
            assert go_on.wait(20)

sys.meta_path.insert(0, Slow())
pinged = []

def ping():
    pinged.append(UpstashRedis.from_env().ping())

thread = threading.Thread(target=ping)
thread.start()
assert begun.wait(20)
threading.Timer(0.2, go_on.set).start()
pid = os.fork()
if not pid:
    signal.alarm(20)
    ping()
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
thread.join()
print(status, pinged)
"""
    assert run(code) == "0 [True]\n"


def test_help_reads_like_a_manual_page() -> None:
    text = run("import upstash_state; help(upstash_state)", PAGER="cat", LINES="1000")
    for name in ("redis_save_order", "OrderStore", "time_budget", "class UpstashRedis"):
        assert name in text


def in_child(work: Callable[[], bool]) -> bool:
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork in a process with threads: the endpoint's.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_client_made_before_a_fork_works_on_both_sides(endpoint: LocalEndpoint) -> None:
    client = UpstashRedis(endpoint.url, endpoint.token)
    assert redis_save_order("parent", {})
    assert client.set("k", "parent")

    def work(name: str) -> bool:
        return redis_save_order(name, {}) and client.get("k") == "parent"

    results = [in_child(partial(work, f"child {n}")) for n in range(3)]
    assert results == [True] * 3
    assert client.get("k") == "parent"
    assert redis_save_order("parent", {})
    assert sorted(client.keys("order:*")) == [
        "order:child 0",
        "order:child 1",
        "order:child 2",
        "order:parent",
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_never_uses_its_parents_sockets(endpoint: LocalEndpoint) -> None:
    redis_save_order("1", {})
    parents = set(_sockets())
    assert parents

    def work() -> bool:
        before = set(_sockets())
        assert redis_save_order("2", {})
        # The parent's are closed or unused; the child's own is new.
        return bool(set(_sockets()) - before)

    assert in_child(work)


def _sockets() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_while_another_thread_holds_the_outbox_does_not_hang_the_child(
    endpoint: LocalEndpoint,
) -> None:
    redis_save_order("parent", {})
    (one,) = registry.deliveries.values()
    with one.outbox.lock:
        assert in_child(lambda: redis_save_order("child", {}))


def test_no_thread_is_left_behind(endpoint: LocalEndpoint) -> None:
    redis_save_order("1", {})
    ours = [thread.name for thread in threading.enumerate() if "upstash_state name" in thread.name]
    assert ours == []


def test_a_closed_client_may_be_used_again(endpoint: LocalEndpoint) -> None:
    with UpstashRedis(endpoint.url, endpoint.token) as client:
        client.ping()
    client.close()
    assert client.ping()
