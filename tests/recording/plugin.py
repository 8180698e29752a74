"""What tests of the pytest plugin share."""

from __future__ import annotations

import os

import pytest

# All that runs inside these tests import: pytester forgets what was first imported in one, and two
# copies of a module do not go together.
import upstash_state.local
import upstash_state.recording
import upstash_state.transport.deadline  # noqa: F401

#: Record everything again, without a database.
LOCALLY = ("--upstash-record=all", "--upstash-local")
# Most of the time that pytest takes to start is theirs.
_WITHOUT = [f"-pno:{plugin}" for plugin in ("anyio", "hypothesispytest", "xdist")]


def alone(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run pytest in a process that does not know that a test runs it."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    return pytester.runpytest_subprocess(*_WITHOUT, *arguments)


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    """How many tests passed, failed and so on."""
    return {what: count for what, count in result.parseoutcomes().items() if what != "warnings"}
