"""Each row of the table holds, and the page has the table."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import LIMIT, Process
from tests.support.servers import port_of, reserve_port
from upstash_state import UpstashRedis
from upstash_state.local import LocalEndpoint

from .rows import APPS, ENVIRONMENT, OPTIONS, ROWS, SAVED, Row, table

PAGE = ROOT / "upstash_state" / "docs" / "servers.md"
PINS = ROOT / "tests" / "surroundings" / "requirements" / f"{ENVIRONMENT}.txt"
# Names the folder that tests/surroundings/environments made the environments in.
FOLDER = "UPSTASH_STATE_TEST_SURROUNDINGS"

VARIANTS = [
    pytest.param(row, added, background, id=f"{row.framework} {row.shown}{suffix}{mode}")
    for row in ROWS
    for added, suffix in ((False, ""), (True, " with more"))
    if row.addition or not added
    for background, mode in ((True, ""), (False, " after an outage"))
]


@pytest.fixture(scope="module")
def python() -> str:
    """The Python of the environment, which has the versions that the page names."""
    folder = Path(os.environ.get(FOLDER, ROOT)) / f".venv-surroundings-{ENVIRONMENT}"
    python = folder / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment {ENVIRONMENT}: tests/surroundings/environments makes it")
    code = "from importlib.metadata import version; import sys; print(*map(version, sys.argv[1:]))"
    installed = subprocess.check_output([python, "-c", code, *pins()], text=True)
    assert installed.split() == [*pins().values()], "tests/surroundings/environments makes it again"
    return str(python)


def pins() -> dict[str, str]:
    """The versions that the environment is made of, by distribution."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", PINS.read_text("utf-8"), re.M))


def command(text: str, python: str, port: int, redis: str) -> list[str]:
    """The arguments of a Python that runs a command of its environment."""
    program = text.split()[0]
    options = OPTIONS.get(program, "").format(port=port, redis=redis)
    arguments = shlex.split(text.format(options=options))[1:]
    return arguments if program == "python" else [str(Path(python).with_name(program)), *arguments]


def post(port: int) -> bool:
    """Post an order, as soon as something listens. Returns what the app says about the save."""
    deadline, pause = time.monotonic() + LIMIT, threading.Event()
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        try:
            connection.request("POST", "/orders/1")
            saved: bool = json.loads(connection.getresponse().read())["saved"]
            return saved
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            pause.wait(0.05)
        finally:
            connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(("row", "added", "background"), VARIANTS)
def test_row(
    row: Row,
    added: bool,
    background: bool,
    python: str,
    tmp_path: Path,
    port: int,
    request: pytest.FixtureRequest,
) -> None:
    assert row.full != row.bare or row.addition is None
    (tmp_path / "app.py").write_text(row.full if added else row.bare, "utf-8")
    redis = request.getfixturevalue("redis_url") if row.enqueue else ""
    # The first two attempts to send the order fail, so that it takes a while.
    with (
        reserve_port() as reserved,
        LocalEndpoint(port=port_of(reserved), latency=row.latency, errors=0.5) as endpoint,
    ):
        if not background:
            endpoint.close()
        environment = {
            "HOME": str(tmp_path),
            "PORT": str(port),
            "UPSTASH_REDIS_REST_URL": endpoint.url,
            "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
            "UPSTASH_STATE_BACKGROUND": "600" if background else "0",
            "UPSTASH_STATE_TIMEOUT": "10",
        }
        if row.enqueue:
            enqueue = [python, *command(row.enqueue, python, port, redis)]
            subprocess.run(enqueue, cwd=tmp_path, env=environment, check=True, timeout=LIMIT)
        run = command(row.command, python, port, redis)
        with Process(run, tmp_path, environment, python) as app:
            app.wait_for(row.ready, row.workers)
            saved = app.wait_for(SAVED)[1] == "True" if row.runner else post(port)
            assert saved == background, app.output
            # Returns at once where it is open already.
            endpoint.start()
            app.terminate()
        with UpstashRedis(endpoint.url, endpoint.token) as client:
            stored = set(client.scan_iter())
    saves = ["1", *row.later] if added else ["1"]
    expected = row.helps and (background or row.outage) if added else row.alone
    assert stored == ({f"order:{one}" for one in saves} if expected else set()), app.output
    assert "Traceback" not in app.output
    assert "Not saved" not in app.output


def test_the_page_has_the_table_and_the_versions() -> None:
    page = PAGE.read_text("utf-8")
    assert table(ROWS) in page
    assert ", ".join(f"{name} {version}" for name, version in pins().items()) in page
    assert len({row.line for row in ROWS}) == len(ROWS)
    assert {row.app for row in ROWS} == {file.stem for file in APPS.glob("*.py")}
