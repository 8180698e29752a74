"""Older pytests and pluggys: the plugin breaks no run, and records and replays."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Names the folder that `environments` made the environments in.
FOLDER = "UPSTASH_STATE_TEST_PYTESTS"
VERSIONS = [
    line.split()[0]
    for line in (Path(__file__).parent / "pytests.txt").read_text(encoding="utf-8").splitlines()
]
NOT_USING_IT = """
import unittest
import pytest

def test(tmp_path): pass

@pytest.mark.parametrize("n", [1, 2])
def test_n(n): pass

@pytest.mark.skip
def test_skipped(): pass

class TestCase(unittest.TestCase):
    def test(self):
        with self.subTest(1):
            pass
"""
USING_IT = """
import unittest
import pytest
from upstash_state import redis_get_order, redis_save_order

@pytest.mark.upstash_recording
def test_marked(tmp_path):
    assert redis_save_order("1", {"n": 1})

def test_fixture(upstash_recording):
    upstash_recording.fail_next(1, "slow")
    assert not redis_save_order("1", {"n": 1})

@pytest.mark.upstash_recording(scope="class")
class TestIt(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert redis_save_order("menu", {})

    def test_it(self):
        with self.subTest(1):
            self.assertEqual(redis_get_order("menu"), {})
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_it_runs_records_and_replays(version: str, tmp_path: Path) -> None:
    python = Path(os.environ.get(FOLDER, ROOT)) / f".venv-pytest-{version}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment {version}: tests/recording/environments makes it")

    def run(*arguments: str) -> str:
        command = [python, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.stdout

    test = tmp_path / "test_app.py"
    test.write_text(NOT_USING_IT)
    assert re.search(r"\b4 passed, 1 skipped in ", run())
    test.write_text(USING_IT)
    assert re.search(r"\b3 passed in ", run("--upstash-record=all", "--upstash-local"))
    assert re.search(r"\b3 passed in ", run())
    test.write_text(USING_IT.replace('{"n": 1}', '{"n": 2}'))
    told = run()
    assert re.search(r"\b1 failed, 2 passed in ", told)
    assert "FAILED test_app.py::test_marked - n is 2, recorded 1 (" in told
