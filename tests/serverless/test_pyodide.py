"""Pyodide in node: the package runs where there are no sockets, no threads and, in part, no TLS."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

from tests.support.faults import FaultServer
from tests.support.faults.connection import Connection, response
from tests.support.faults.fault import Catalogue, Kind
from tests.support.faults.wire import body_truncated, never_answers
from tests.support.paths import ROOT
from tests.support.servers import port_of, reserve_port
from upstash_state import OrderStore, UpstashRedis
from upstash_state.local import LocalEndpoint

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Those of Cloudflare's Workers. The older one is Python 3.13 without the module ssl, the newer one
# Python 3.14 with it.
VERSIONS = ("0.28.2", "314.0.5")
# Lets WebAssembly wait for a promise. It is in every browser of Chrome's kind, in Workers, and from
# version 24 on in node, which until then has one of these options for it.
OPTIONS = ("--experimental-wasm-jspi", "--experimental-wasm-stack-switching")
DOWNLOAD_SECONDS = 300
RUN_SECONDS = 300
# The time limit of the calls to endpoints that misbehave.
TIMEOUT = 4


@Catalogue().enter(Kind.SILENT)
def late_and_without_an_end(connection: Connection) -> None:
    answer = response(connection.run())
    connection.server.closing.wait(TIMEOUT * 3 / 4)
    connection.send(answer[:-3])
    connection.hang()


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def download(command: list[str], folder: Path) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name} has downloaded nothing in {DOWNLOAD_SECONDS} s")
    if done.returncode:
        pytest.skip(f"{name} cannot download: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def node() -> list[str]:
    """The command that runs node with what Pyodide needs to wait."""
    path = program("node")
    known = subprocess.run(
        [path, "--v8-options"], capture_output=True, text=True, check=True
    ).stdout
    return [path, *[option for option in OPTIONS if f"{option} " in known][:1]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of this package and of what it needs."""
    folder = tmp_path_factory.mktemp("packages")
    download(
        [
            *(program("uv"), "pip", "install", "-q", "--target", str(folder)),
            *("--python-platform=wasm32-pyodide2025", "--python-version=3.13"),
            *("--only-binary=:all:", "requests", "python-dateutil"),
        ],
        folder,
    )
    shutil.copytree(
        ROOT / "upstash_state",
        folder / "upstash_state",
        ignore=shutil.ignore_patterns("__pycache__", "*.md", "*.png", "*.jsonl"),
    )
    return Path(shutil.make_archive(str(folder), "zip", folder))


@pytest.fixture(scope="module", params=VERSIONS)
def pyodide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the npm package."""
    folder = tmp_path_factory.mktemp("pyodide")
    download([program("npm"), "install", "--silent", f"pyodide@{request.param}"], folder)
    return folder / "node_modules" / "pyodide"


class Run(NamedTuple):
    """What the script found, what was written by then, and endpoints that it used."""

    found: dict[str, Any]
    output: str
    endpoint: LocalEndpoint
    broken: FaultServer


@pytest.fixture(scope="module")
def run(node: list[str], pyodide: Path, archive: Path) -> Iterator[Run]:
    """The script has been run, with a good endpoint and some that misbehave."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(LocalEndpoint())
        stalled, late, broken = (stack.enter_context(FaultServer()) for _ in range(3))
        stalled.plan(never_answers, None)
        late.plan(late_and_without_an_end, None)
        broken.plan(body_truncated)
        refused = f"http://127.0.0.1:{port_of(stack.enter_context(reserve_port()))}"
        environment = {
            "UPSTASH_REDIS_REST_URL": endpoint.url,
            "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
            "TOKEN": FaultServer.token,
            "STALLED": stalled.url,
            "LATE": late.url,
            "REFUSED": refused,
            "BROKEN_ONCE": broken.url,
            "WORKER": (HERE / "cloudflare" / "entry.py").read_text("utf-8"),
        }
        scripts = HERE / "pyodide"
        done = subprocess.run(
            [*node, scripts / "run.mjs", pyodide, archive, scripts / "orders.py"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-4000:]
        yield Run(json.loads(done.stdout.splitlines()[-1]), output, endpoint, broken)


def test_each_function_works(run: Run) -> None:
    assert run.found["functions"] == [True, True, 1500, True, 1501, True, True, None, 1499, True]
    with UpstashRedis(run.endpoint.url, run.endpoint.token) as redis:
        assert redis.keys("functions:*") == ["functions:a"]
        assert 604_000 < redis.ttl("functions:a") <= 604_800


def test_each_coroutine_function_works(run: Run) -> None:
    assert run.found["aio"] == run.found["functions"]


def test_tasks_save_different_orders_at_the_same_time(run: Run) -> None:
    assert run.found["different orders"] == [True] * 8


def test_tasks_that_save_one_order_wait_for_each_other(run: Run) -> None:
    assert run.found["one order"] == [True] * 5
    assert run.found["the last"] == {"n": 4}


def test_a_flush_waits_for_what_another_task_is_sending(run: Run) -> None:
    assert run.found["flush"] == [True, True]


def test_background_mode_sends_at_once(run: Run) -> None:
    assert run.found["background"] == [True, '{"n": 1}']


def test_the_worker_of_the_page_saves(run: Run) -> None:
    assert run.found["worker"] == [200, {"saved": True}]
    store = OrderStore(UpstashRedis(run.endpoint.url, run.endpoint.token), prefix="worker:")
    assert store.get("5866").keys() == {"id", "received_at"}


@pytest.mark.parametrize("endpoint", ["STALLED", "LATE"])
def test_the_time_limit_holds(run: Run, endpoint: str) -> None:
    found = run.found[endpoint]
    assert found["reason"] == "timeout"
    # Without a limit of its own, the body of a late answer would get as long as its head.
    assert TIMEOUT <= found["seconds"] < TIMEOUT * 3 / 2


def test_a_refused_connection_is_an_outage(run: Run) -> None:
    cause = "the connection to the endpoint failed: fetch failed"
    assert run.found["REFUSED"].items() >= {"text": cause, "reason": "closed"}.items()
    assert run.found["down"] == [False, False, False, False, {}, False]
    *lines, last = run.found["lines"]
    assert lines == [
        *[f"Failed to save order a to Redis: {cause}"] * 2,
        f"Redis endpoint failed 3 calls in a row - not asked again for 5 s: {cause}",
        f"Failed to save order a to Redis: {cause}",
    ]
    assert last.startswith("Failed to get all orders from Redis: not asked")


def test_an_answer_that_breaks_off_is_asked_for_again(run: Run) -> None:
    assert run.broken.struck == {"body_truncated": 1}
    assert run.found["BROKEN_ONCE"]["text"] == ""


def test_a_call_that_cannot_wait_for_javascript_says_why(run: Run) -> None:
    assert "runPythonAsync" in run.found["not promised"]["text"]


def test_the_start_is_measured(
    run: Run, archive: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    start = json.loads(run.output.splitlines()[0])
    kilobytes: Counter[str] = Counter()
    with ZipFile(archive) as packages:
        for file in packages.infolist():
            kilobytes[file.filename.split("/")[0]] += file.compress_size / 1000
    own = kilobytes["upstash_state"]
    with capsys.disabled():
        print(f"\n{request.node.callspec.id}, seconds:", {k: round(v, 2) for k, v in start.items()})
        print(f"zipped: upstash_state {own:.0f} KB, all {sum(kilobytes.values()):.0f} KB")
    assert start.keys() == {"Pyodide", "upstash_state", "requests"}


def test_no_token_is_written(run: Run) -> None:
    for token in (run.endpoint.token, FaultServer.token):
        assert token not in run.output
