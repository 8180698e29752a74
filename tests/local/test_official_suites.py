"""The script that runs Upstash's own suites, on a suite of one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local import official_suites

SUITE = """
import os
import requests

def ask(*command):
    return requests.post(
        os.environ["UPSTASH_REDIS_REST_URL"],
        json=command,
        headers={"Authorization": "Bearer " + os.environ["UPSTASH_REDIS_REST_TOKEN"]},
        timeout=30,
    ).json()

def test_that_passes():
    assert ask("PING") == {"result": "PONG"}

def test_that_needs_upstash_search():
    assert "error" not in (answer := ask("SEARCH.QUERY", "index", "{}")), answer["error"]

def test_that_fakeredis_fails():
    assert "redis_mode:standalone" in ask("INFO")["result"]
    assert "used_memory" in ask("INFO")["result"]

def test_that_nothing_explains():
    assert ask("PING") == {"result": "PING"}
"""

BUN = """bun test v1.3.6

pkg/commands/get.test.ts:
(pass) GET > gives the value [1.00ms]
error: expect(received).toEqual(expected)
(fail) GET > fails [1.25ms]
(skip) GET > is left out

pkg/http.test.ts:
(pass) retries

1 tests failed:
(fail) GET > fails [1.25ms]
"""


@pytest.mark.slow
def test_each_failure_is_put_into_a_class(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert official_suites.main(["--redis-py", str(tmp_path), "--redis-url", redis_url]) == 1
    _, over_redis, over_fakeredis = capsys.readouterr().out.split("\nredis-py over ")
    for text, count in (over_redis, 2), (over_fakeredis, 1):
        assert f": {count} of 4 passed" in text
        assert f"     1  {official_suites.SEARCH}\n" in text
        assert f"     1  {official_suites.OURS}\n" in text
        assert "test_suite.py::test_that_nothing_explains" in text
    assert official_suites.FAKEREDIS not in over_redis
    assert f"     1  {official_suites.FAKEREDIS}\n" in over_fakeredis


def test_a_suite_that_does_not_run_is_told(redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="did not run"):
        official_suites.main(["--redis-py", str(tmp_path), "--redis-url", redis_url])


def test_what_bun_prints_is_read() -> None:
    assert list(official_suites._bun(BUN)) == [
        ("pkg/commands/get.test.ts GET > gives the value", None),
        ("pkg/commands/get.test.ts GET > fails", "error: expect(received).toEqual(expected)"),
        ("pkg/http.test.ts retries", None),
    ]
