"""What tests of the pytest plugin share."""

from __future__ import annotations

import pytest

# All that runs inside these tests import: pytester forgets what was first imported in one, and two
# copies of a module do not go together.
import upstash_state.local
import upstash_state.recording
import upstash_state.transport.deadline  # noqa: F401

#: Record all anew, without a database.
LOCALLY = ("--upstash-record=all", "--upstash-local")


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    """How many tests passed, failed and so on."""
    return {what: count for what, count in result.parseoutcomes().items() if what != "warnings"}
