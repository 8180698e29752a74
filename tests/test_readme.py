"""What the README shows is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.paths import README
from upstash_state.local import LocalEndpoint

# A comment before a block says that other tests run it: as a file, or under pytest.
BLOCK = re.compile(r"(<!-- .*? -->\n+)?```python\n(.*?)```", re.S)
BLOCKS = [
    code for comment, code in BLOCK.findall(README.read_text(encoding="utf-8")) if not comment
]


@pytest.mark.parametrize("code", BLOCKS)
def test_every_python_block_of_the_readme_runs(endpoint: LocalEndpoint, code: str) -> None:
    run(endpoint, code)


def run(endpoint: LocalEndpoint, code: str) -> None:
    environ = {
        **os.environ,
        "UPSTASH_REDIS_REST_URL": endpoint.url,
        "UPSTASH_REDIS_REST_TOKEN": endpoint.token,
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    assert "Failed" not in result.stderr


COROUTINE = """
from fastapi.testclient import TestClient

client = TestClient(app)
assert client.put("/orders/5866", json={"status": "new"}).json() == {"saved": True}
assert redis_get_all_orders() == {"5866": {"status": "new"}}
"""


def test_the_coroutine_saves(endpoint: LocalEndpoint) -> None:
    (code,) = [code for code in BLOCKS if "FastAPI(" in code]
    run(endpoint, code + COROUTINE)


def test_the_readme_has_blocks_to_run() -> None:
    assert len(BLOCKS) >= 5
