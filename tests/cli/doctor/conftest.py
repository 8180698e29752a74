"""The doctor, examining the environment of a test."""

from __future__ import annotations

import re

import pytest

from tests.support.cli import Outcome, Tool
from tests.support.faults import Certificates

URL, URL_TOKEN = "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"
KV, KV_TOKEN = "KV_REST_API_URL", "KV_REST_API_TOKEN"
ELSEWHERE = "https://sunny-fox-12345.upstash.io"
PASSWORD = "hunter2-hunter2"
#: The rows of a set-up that works, over plain http.
CHECKS = [
    "variables",
    "URL",
    "settings",
    "endpoint",
    "token",
    "writing",
    "SCAN",
    "pipeline",
    "transaction",
    "round trip",
    "memory",
    "orders",
    "probe order",
]


class Doctor:
    """Examines this process's environment."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def run(self) -> Outcome:
        """Run it, and check that it shows no secret."""
        outcome = self._tool("doctor")
        assert PASSWORD not in outcome.out
        assert outcome.err == ""
        return outcome

    def finds(self, check: str, found: str, advice: str) -> None:
        """Check that it ends at a check, with a finding and advice (regular expressions)."""
        status, out, _ = self.run()
        assert status == 1, out
        *before, line, arrow, empty, summary = out.splitlines()
        assert (empty, summary.partition(" is wrong")[0]) == ("", "One thing")
        assert re.fullmatch(rf"wrong    {check:11} .*{found}.*", line), out
        assert re.fullmatch(rf" {{21}}-> .*{advice}.*", arrow), out
        assert not any(line.startswith("wrong") for line in before)

    def warns(self, check: str, found: str, advice: str) -> None:
        """Check that nothing is wrong, but that there is a warning."""
        status, out, _ = self.run()
        assert status == 0, out
        assert re.search(rf"^warning  {check:11} .*{found}.*\n {{21}}-> .*{advice}", out, re.M), out
        assert re.search(r"\n\nIt works, with [1-9] warnings?\.\n$", out)


@pytest.fixture
def doctor(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    # Between retries. Other tests check these pauses.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return Doctor(tool)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
