"""Each row of the matrix holds, and the README has the table."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.faults import Certificates, FaultServer
from tests.support.faults.wire import body_trickled, headers_trickled
from tests.support.paths import ROOT

from .rows import HERE, ROWS, Row, table
from .socks import SocksProxy

# Names the folder that `environments` made the environments in.
FOLDER = "UPSTASH_STATE_TEST_SURROUNDINGS"
# A name that no name server knows (RFC 6761, section 6.2): only the proxy does.
NAME = "db.example.test"
LIMIT = 90.0
# What a test shows of what a script has said.
TAIL = 4000

passed: list[Row] = []


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a script: endpoints over https, one good, two that drip, and proxies."""
    certificates = Certificates(tmp_path_factory.mktemp("certificates"), NAME)
    with ExitStack() as stack:
        good, headers, body = (stack.enter_context(FaultServer(certificates)) for _ in range(3))
        headers.plan(headers_trickled, None)
        body.plan(body_trickled, None)
        behind = {
            f"{NAME}:{number}": server for number, server in enumerate((good, headers, body), 443)
        }
        ports = {target: int(server.url.rpartition(":")[2]) for target, server in behind.items()}
        proxy = stack.enter_context(SocksProxy(ports))
        dripping_proxy = stack.enter_context(SocksProxy(ports, pace=0.5))
        yield {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(ROOT),
            "UPSTASH_REDIS_REST_URL": good.url,
            "UPSTASH_REDIS_REST_TOKEN": FaultServer.token,
            "DRIPPING_HEADERS_URL": headers.url,
            "DRIPPING_BODY_URL": body.url,
            "URL_BEHIND_SOCKS": f"https://{NAME}",
            "DRIPPING_HEADERS_BEHIND_SOCKS": f"https://{NAME}:444",
            "DRIPPING_BODY_BEHIND_SOCKS": f"https://{NAME}:445",
            "SOCKS_PROXY_URL": f"socks5h://127.0.0.1:{proxy.port}",
            "DRIPPING_SOCKS_PROXY_URL": f"socks5h://127.0.0.1:{dripping_proxy.port}",
            "REQUESTS_CA_BUNDLE": str(certificates.bundle),
            "SSL_CERT_FILE": str(certificates.bundle),
        }


def interpreter(row: Row) -> str:
    """The Python of a row's environment."""
    if row.environment is None:
        return sys.executable
    folder = Path(os.environ.get(FOLDER, ROOT)) / f".venv-surroundings-{row.environment}"
    python = folder / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment {row.environment}: tests/surroundings/environments makes it")
    return str(python)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.script}-{row.environment}")
def test_row(row: Row, environment: dict[str, str], tmp_path: Path) -> None:
    python = interpreter(row)
    names = "from importlib.metadata import version; import sys\n"
    installed = subprocess.run(
        [python, "-c", names + "print(*map(version, sys.argv[1:]))", *row.versions],
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout.split() == [*row.versions.values()], "environments makes them anew"
    process = subprocess.Popen(
        [python, str(row.file)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        pytest.fail(f"not done after {LIMIT} s:\n{output[-TAIL:]}")
    assert process.returncode == 0, output[-TAIL:]
    passed.append(row)


def test_what_was_run_is_the_table_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    text = (HERE / "README.md").read_text("utf-8")
    assert table(ROWS) in text
    assert len(set(table(ROWS).split("\n"))) == len(ROWS) + 2
    assert {row.script for row in ROWS} | {"probes", "shop", "spans"} == {
        file.stem for file in (HERE / "scripts").glob("*.py")
    }
    with capsys.disabled():
        print(f"\n{table(passed)}")
