"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli import TOKEN, Tool, use
from upstash_state.local import LocalEndpoint


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEndpoint]:
    """An empty endpoint in memory, which the environment names."""
    with LocalEndpoint(token=TOKEN) as endpoint:
        use(monkeypatch, endpoint.url)
        yield endpoint


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(capsys)
