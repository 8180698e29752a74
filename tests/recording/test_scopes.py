"""Recordings of modules and classes, options for a whole suite, and subtests."""

from __future__ import annotations

from pathlib import Path

import pytest

from upstash_state.recording.file import load

from .plugin import LOCALLY, outcomes

pytest_plugins = ["pytester"]


def recorded(folder: Path) -> dict[str, list[str]]:
    """The commands in each recording."""
    return {
        path.relative_to(folder / "recordings").as_posix(): [
            command[0]
            for exchange in load(path.read_text(encoding="utf-8"))
            for command in exchange.request.commands
        ]
        for path in sorted(folder.glob("recordings/**/*.yaml"))
    }


MODULE = """
    import pytest
    from upstash_state import redis_delete_order, redis_get_order, redis_save_order

    pytestmark = pytest.mark.upstash_recording(scope="module")

    @pytest.fixture(scope="module", autouse=True)
    def menu():
        assert redis_save_order("menu", {"n": 1})
        yield
        assert redis_delete_order("menu")

    @pytest.fixture(scope="class")
    def special():
        assert redis_save_order("special", {"n": 2})

    def test_first():
        assert redis_get_order("menu") == {"n": 1}

    def test_second():
        assert redis_save_order("other", {})

    class TestIt:
        def test_it(self, special):
            assert redis_get_order("special") == {"n": 2}
"""


def test_a_module_records_what_its_fixtures_send(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=MODULE)
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 3}
    assert recorded(pytester.path) == {
        "test_app.yaml": ["SET", "SET", "DEL"],
        "test_app/TestIt.test_it.yaml": ["GET"],
        "test_app/test_first.yaml": ["GET"],
        "test_app/test_second.yaml": ["SET"],
    }
    assert outcomes(pytester.runpytest()) == {"passed": 3}
    # A run of some tests uses some of it.
    assert outcomes(pytester.runpytest("-k", "second")) == {"passed": 1, "deselected": 2}


def test_what_its_fixtures_send_must_be_recorded(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=MODULE)
    pytester.runpytest(*LOCALLY)
    changed = test.read_text().replace('assert redis_save_order("menu"', 'redis_save_order("menu"')
    test.write_text(changed.replace('"menu", {"n": 1}', '"menu", {"n": 3}'))
    result = pytester.runpytest("-k", "second")
    assert outcomes(result) == {"passed": 1, "errors": 1, "deselected": 2}
    result.stdout.fnmatch_lines(
        [
            "n is 3, recorded 1 (SET order:menu, exchange 1)",
            "recordings/test_app.yaml does not fit this run.",
            "    pytest --upstash-record=all test_app.py",
        ]
    )


def test_a_module_of_which_a_test_failed_is_not_recorded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=MODULE.replace('"other", {})', '"other", {}) is None'))
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2, "failed": 1}
    assert list(recorded(pytester.path)) == [
        "test_app/TestIt.test_it.yaml",
        "test_app/test_first.yaml",
    ]


@pytest.mark.slow
def test_a_module_is_not_recorded_by_several_processes(pytester: pytest.Pytester) -> None:
    """Each would write a file of what its own tests use, and the last one would stay."""
    pytest.importorskip("xdist")
    pytester.makepyfile(test_app=MODULE)
    assert outcomes(pytester.runpytest(*LOCALLY, "-n1")) == {"passed": 3}
    before = recorded(pytester.path)
    result = pytester.runpytest(*LOCALLY, "-n2")
    assert outcomes(result) == {"errors": 3}
    result.stdout.fnmatch_lines(
        [
            "*recordings/test_app.yaml cannot be recorded by several processes*: add -n 0",
            "    pytest --upstash-record=all test_app.py",
        ]
    )
    assert recorded(pytester.path) == before
    assert outcomes(pytester.runpytest("-n2")) == {"passed": 3}


def test_a_missing_file_says_how_to_record_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=MODULE)
    result = pytester.runpytest("-k", "first")
    result.stdout.fnmatch_lines(
        [
            "recordings/test_app.yaml does not exist. To record it:",
            "    pytest --upstash-record=all test_app.py",
        ]
    )


def test_a_class_records_what_setUpClass_sends(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        import unittest
        import pytest
        from upstash_state import redis_delete_order, redis_get_order, redis_save_order

        @pytest.mark.upstash_recording(scope="class")
        class TestOne(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                assert redis_save_order("1", {"n": 1})

            @classmethod
            def tearDownClass(cls):
                assert redis_delete_order("1")

            def test(self):
                assert redis_get_order("1") == {"n": 1}

        @pytest.mark.upstash_recording(scope="class")
        class TestTwo:
            @pytest.fixture(scope="class")
            def stored(self):
                assert redis_save_order("2", {"n": 2})

            def test(self, stored):
                assert redis_get_order("2") == {"n": 2}
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2}
    assert recorded(pytester.path) == {
        "test_app/TestOne.test.yaml": ["GET"],
        "test_app/TestOne.yaml": ["SET", "DEL"],
        "test_app/TestTwo.test.yaml": ["GET"],
        "test_app/TestTwo.yaml": ["SET"],
    }
    assert outcomes(pytester.runpytest()) == {"passed": 2}


@pytest.mark.parametrize("marker", ['(scope="module")', '(scope="session")'])
def test_other_scopes_are_refused(pytester: pytest.Pytester, marker: str) -> None:
    mark = f"pytest.mark.upstash_recording{marker}"
    marked = f"@{mark}" if "module" in marker else f"pytestmark = {mark}"
    pytester.makepyfile(test_app=f"import pytest\n\n{marked}\ndef test():\n    pass\n")
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"errors": 1}
    complaint = 'takes scope="class" or scope="module" on a class or a module only (*::test)'
    result.stdout.fnmatch_lines([f"*{complaint}*"])


def test_options_for_a_whole_suite(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def upstash_recording_config():
            return {"varying": "at", "varying_keys": ["order:*"]}
        """
    )
    test = """
        import time
        import uuid
        import pytest
        from upstash_state import redis_save_order

        pytestmark = pytest.mark.upstash_recording

        def test_one():
            assert redis_save_order(uuid.uuid4().hex, {"at": time.time(), "n": 1})

        @pytest.mark.upstash_recording(varying=["n"])
        def test_two():
            assert redis_save_order(uuid.uuid4().hex, {"at": 1, "n": time.time()})
    """
    pytester.makepyfile(test_app=test)
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 2}
    assert outcomes(pytester.runpytest()) == {"passed": 2}
    pytester.makepyfile(test_app=test.replace('"n": 1', '"n": 2'))
    assert outcomes(pytester.runpytest()) == {"passed": 1, "failed": 1}
    # In a module, another one can be in its place.
    other = """
        @pytest.fixture
        def upstash_recording_config():
            return {}
    """
    pytester.makepyfile(test_app=test + other)
    assert outcomes(pytester.runpytest()) == {"failed": 2}


def test_unknown_options_of_a_suite_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def upstash_recording_config():
            return {"record_mode": "once"}
        """
    )
    pytester.makepyfile("def test(upstash_recording): pass")
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(["*upstash_recording_config take *: * 'record_mode'*"])


UNITTEST = """
    import unittest
    import pytest
    from upstash_state import redis_save_order

    @pytest.mark.upstash_recording
    class TestIt(unittest.TestCase):
        def test(self):
            for number in range(3):
                with self.subTest(number=number):
                    self.assertTrue(redis_save_order(str(number), {}))
                    self.assertNotEqual(number, 1)
"""
FIXTURE = """
    import pytest
    from upstash_state import redis_save_order

    @pytest.mark.upstash_recording
    def test(subtests):
        for number in range(3):
            with subtests.test(number=number):
                assert redis_save_order(str(number), {})
                assert number != 1
"""


@pytest.mark.parametrize("code", [UNITTEST, FIXTURE], ids=["unittest", "fixture"])
def test_a_test_with_a_failing_subtest_is_not_recorded(
    pytester: pytest.Pytester, code: str
) -> None:
    if code is FIXTURE and int(pytest.__version__.split(".")[0]) < 9:
        pytest.importorskip("pytest_subtests")
    pytester.makepyfile(test_app=code)
    assert pytester.runpytest(*LOCALLY).ret == pytest.ExitCode.TESTS_FAILED
    assert recorded(pytester.path) == {}
    pytester.makepyfile(test_app=code.replace("1)", "9)").replace("!= 1", "!= 9"))
    assert pytester.runpytest(*LOCALLY).ret == pytest.ExitCode.OK
    ((_, commands),) = recorded(pytester.path).items()
    assert commands == ["SET", "SET", "SET"]
