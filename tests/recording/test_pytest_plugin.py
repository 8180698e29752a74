"""The pytest plugin, used as an app's tests use it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from upstash_state.local import LocalEndpoint
from upstash_state.recording.file import dump, load

from .plugin import LOCALLY, alone, outcomes

pytest_plugins = ["pytester"]


SAVE = """
    import pytest
    from upstash_state import redis_save_order

    @pytest.mark.upstash_recording
    def test_save():
        assert redis_save_order("1", {"total": 1})
"""


def recorded_commands(path: Path) -> list[str]:
    return [exchange.request.commands[0][0] for exchange in load(path.read_text(encoding="utf-8"))]


def test_it_imports_nothing_until_a_test_asks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_without_a_recording(request):
            assert request.config.pluginmanager.has_plugin("upstash_state")
            heavy = {"responses", "requests", "urllib3", "yaml", "upstash_state.recording"}
            assert heavy & sys.modules.keys() == set()
        """
    )
    assert outcomes(alone(pytester)) == {"passed": 1}


def test_a_marked_test_is_recorded_and_replayed(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=SAVE)
    file = pytester.path / "recordings" / "test_app" / "test_save.yaml"
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    assert recorded_commands(file) == ["SET"]
    written = file.read_text(encoding="utf-8")
    assert outcomes(pytester.runpytest()) == {"passed": 1}
    assert file.read_text(encoding="utf-8") == written
    test.write_text(test.read_text().replace("1})", "2})"))
    assert outcomes(pytester.runpytest("--upstash-record=once", "--upstash-local")) == {"failed": 1}
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    assert '"total": 2' in file.read_text(encoding="utf-8")


def test_once_records_only_what_has_no_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=SAVE)
    folder = pytester.path / "recordings" / "test_app"
    once = ("--upstash-record=once", "--upstash-local")
    assert outcomes(pytester.runpytest(*once)) == {"passed": 1}
    written = (folder / "test_save.yaml").stat()
    pytester.makepyfile(test_app=SAVE + SAVE.replace("test_save", "test_more"))
    assert outcomes(pytester.runpytest(*once)) == {"passed": 2}
    assert (folder / "test_save.yaml").stat().st_ino == written.st_ino
    assert (folder / "test_more.yaml").exists()


def test_replay_needs_no_credentials_and_opens_no_socket(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=SAVE)
    pytester.runpytest(*LOCALLY)
    pytester.makeconftest(
        """
        import os, sys

        def refuse(event, args):
            assert event not in ("socket.connect", "socket.getaddrinfo"), event

        def pytest_configure():
            sys.addaudithook(refuse)
            assert not any(name.endswith("_REST_URL") for name in os.environ)
        """
    )
    assert outcomes(alone(pytester)) == {"passed": 1}


def test_real_credentials_are_recorded_with_but_never_written(
    pytester: pytest.Pytester, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        test_app="""
        import os
        import pytest
        from upstash_state import redis_save_order

        @pytest.mark.upstash_recording
        def test_save():
            assert redis_save_order("1", {"total": 1})

        @pytest.mark.upstash_recording
        def test_leak():
            assert redis_save_order("1", {"env": dict(os.environ)})
        """
    )
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", endpoint.url)
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", endpoint.token)
    result = pytester.runpytest("--upstash-record=all")
    assert outcomes(result) == {"passed": 2, "errors": 1}
    result.stdout.fnmatch_lines(["*test_leak.yaml is not written: exchange 1 *holds the token*"])
    assert endpoint.usage().commands == 2
    (file,) = [path for path in pytester.path.glob("recordings/**/*") if path.is_file()]
    text = file.read_text(encoding="utf-8")
    assert endpoint.token not in text
    assert endpoint.url.removeprefix("http://") not in text
    assert outcomes(pytester.runpytest("-k", "save")) == {"passed": 1, "deselected": 1}
    assert os.environ["UPSTASH_REDIS_REST_TOKEN"] == endpoint.token


def test_the_embedded_endpoint_is_recorded_whatever_fixtures_name_and_mock(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_app="""
        import pytest
        import requests
        import responses
        from upstash_state import redis_get_order, redis_save_order

        @pytest.fixture(autouse=True)
        def credentials(monkeypatch):
            monkeypatch.setenv("UPSTASH_REDIS_REST_URL", "https://database.example")
            monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", "a-token-of-no-account")

        def test_other_services_are_mocked(upstash_recording):
            with responses.RequestsMock() as mock:
                mock.get("https://pay.example", json={"paid": True})
                order = requests.get("https://pay.example", timeout=1).json()
                assert redis_save_order("1", order)
                assert redis_get_order("1") == order
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    assert outcomes(pytester.runpytest()) == {"passed": 1}


def test_recording_without_credentials_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=SAVE)
    result = pytester.runpytest("--upstash-record=all")
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(
        [
            "*test_save.yaml cannot be recorded: UPSTASH_REDIS_REST_URL *. To record it:",
            "    pytest --upstash-record=all test_app.py::test_save",
            "*--upstash-local*",
        ]
    )


def test_a_missing_file_says_how_to_record_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app=SAVE)
    result = pytester.runpytest()
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(
        [
            "recordings/test_app/test_save.yaml does not exist. To record it:",
            "    pytest --upstash-record=all test_app.py::test_save",
            "*--upstash-local*",
        ]
    )
    assert "During handling" not in result.stdout.str()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("format: 9\nexchanges: []\n", "has a format other than 1, *"),
        ("format: 1\nexchanges: [\n", "is not readable YAML: *"),
    ],
)
def test_a_bad_file_says_what_is_wrong(
    pytester: pytest.Pytester, text: str, complaint: str
) -> None:
    pytester.makepyfile(test_app=SAVE)
    file = pytester.path / "recordings" / "test_app" / "test_save.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    result = pytester.runpytest()
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(
        [f"recordings/test_app/test_save.yaml {complaint} To record it:", "*test_save"]
    )


def test_a_request_that_nothing_answers_fails_a_test_that_would_pass(
    pytester: pytest.Pytester,
) -> None:
    test = """
        import pytest
        from upstash_state import redis_get_order, redis_save_order

        pytestmark = pytest.mark.upstash_recording

        def test_save():
            redis_save_order("1", {"total": 1})
            assert redis_get_order("2") is None
    """
    pytester.makepyfile(test_app=test)
    pytester.runpytest(*LOCALLY)
    pytester.makepyfile(test_app=test.replace('"total": 1', '"total": 2').replace('"2"', '"3"'))
    result = pytester.runpytest()
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            "total is 2, recorded 1 (SET order:1, exchange 1)",
            "key is order:3, recorded order:2 (GET order:3, exchange 2)",
            "",
            "recordings/test_app/test_save.yaml does not fit this run.",
            "To record what is sent now:",
            "    pytest --upstash-record=all test_app.py::test_save",
            "    (without a database: --upstash-local)",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        ["FAILED test_app.py::test_save - Failed: total is 2, recorded 1 *"]
    )


def test_a_test_that_fails_by_itself_shows_what_did_not_fit(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=SAVE)
    pytester.runpytest(*LOCALLY)
    test.write_text(test.read_text().replace("1})", "2})"))
    result = pytester.runpytest()
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*assert redis_save_order*",
            "*Captured upstash_recording*",
            "total is 2, recorded 1 (SET order:1, exchange 1)",
            "FAILED test_app.py::test_save - total is 2, recorded 1 *",
        ]
    )


def test_what_was_not_used_fails_unless_the_marker_allows_it(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=SAVE)
    pytester.runpytest(*LOCALLY)
    test.write_text(test.read_text().replace("    assert redis", "    return\n    assert redis"))
    result = pytester.runpytest()
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(
        ["not sent: SET order:1 (exchange 1); allow_unused=True lets this pass"]
    )
    test.write_text(test.read_text().replace("_recording\n", "_recording(allow_unused=True)\n"))
    assert outcomes(pytester.runpytest()) == {"passed": 1}


def test_fixtures_are_part_of_their_test(pytester: pytest.Pytester) -> None:
    test = """
        import pytest
        from upstash_state import redis_delete_order, redis_get_order, redis_save_order

        @pytest.fixture(scope="session", autouse=True)
        def once():
            assert redis_get_order("before") is None  # no credentials, so no request

        @pytest.fixture(autouse=True)
        def stored():
            assert redis_save_order("1", {"total": 1})
            yield
            assert redis_delete_order("1")

        @pytest.mark.upstash_recording
        def test_get():
            assert redis_get_order("1") == {"total": 1}
    """
    pytester.makepyfile(test_app=test)
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    file = pytester.path / "recordings" / "test_app" / "test_get.yaml"
    exchanges = load(file.read_text(encoding="utf-8"))
    assert [exchange.in_teardown for exchange in exchanges] == [False, False, True]
    assert outcomes(pytester.runpytest()) == {"passed": 1}
    # What is wrong in the clean-up is the clean-up's error.
    pytester.makepyfile(test_app=test.replace('redis_delete_order("1")', "True"))
    result = pytester.runpytest()
    assert outcomes(result) == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["*ERROR at teardown*", "not sent: DEL order:1 (exchange 3); *"])
    pytester.makepyfile(test_app=test.replace('redis_delete_order("1")', 'redis_delete_order("2")'))
    result = pytester.runpytest()
    assert outcomes(result) == {"passed": 1, "errors": 1}


def test_tests_do_not_leak_into_each_other(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        import os
        import pytest
        from upstash_state import get_redis_client

        seen = set()

        @pytest.mark.upstash_recording
        @pytest.mark.parametrize("number", [1, 2])
        def test_client(number):
            client = get_redis_client()
            assert client is not None
            assert id(client) not in seen
            seen.add(client)
            assert "UPSTASH_REDIS_REST_TOKEN" in os.environ

        def test_without():
            assert get_redis_client() is None
            assert "UPSTASH_REDIS_REST_TOKEN" not in os.environ
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 3}
    assert outcomes(pytester.runpytest()) == {"passed": 3}


def test_only_a_test_that_passes_is_recorded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        import unittest
        import pytest
        from upstash_state import redis_save_order

        pytestmark = pytest.mark.upstash_recording

        def test_fails():
            assert not redis_save_order("1", {})

        def test_skips():
            redis_save_order("1", {})
            pytest.skip("half-way")

        @pytest.mark.skip
        def test_is_skipped():
            pass

        @pytest.mark.xfail
        def test_is_expected_to_fail():
            assert not redis_save_order("1", {})

        class TestCase(unittest.TestCase):
            def test_fails(self):
                self.assertFalse(redis_save_order("1", {}))

            def test_passes(self):
                self.assertTrue(redis_save_order("1", {}))
        """
    )
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {
        "passed": 1,
        "failed": 2,
        "skipped": 2,
        "xfailed": 1,
    }
    files = [path.name for path in pytester.path.glob("recordings/*/*")]
    assert files == ["TestCase.test_passes.yaml"]
    result.stdout.fnmatch_lines(
        [
            "*/test_fails.yaml is not written, because the test did not pass.",
            "*/TestCase.test_fails.yaml is not written, because the test did not pass.",
        ]
    )


def test_a_failing_test_leaves_its_old_recording(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=SAVE)
    pytester.runpytest(*LOCALLY)
    (file,) = pytester.path.glob("recordings/*/*")
    before = file.read_text()
    test.write_text(test.read_text().replace("1})", "2}); assert False"))
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["*test_save.yaml is not written, because the test did not pass."])
    assert file.read_text() == before


def test_each_test_has_a_file_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        import pytest
        from upstash_state import get_redis_client

        pytestmark = pytest.mark.upstash_recording

        @pytest.mark.parametrize("text", ["a/b", "../..", "ü", "c d"], ids=str)
        def test_any(text):
            assert get_redis_client()

        @pytest.mark.parametrize("text", [pytest.param("", id="x" * 300)])
        def test_long(text):
            assert get_redis_client()

        class TestOuter:
            class TestInner:
                def test_any(self):
                    assert get_redis_client()
        """
    )
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 6}
    files = sorted(path.name for path in pytester.path.glob("recordings/test_app/*"))
    assert [name for name in files if "xxx" not in name] == [
        "TestOuter.TestInner.test_any.yaml",
        "test_any[-xfc].yaml",
        "test_any[..-..].yaml",
        "test_any[a-b].yaml",
        "test_any[c d].yaml",
    ]
    (long,) = (name for name in files if "xxx" in name)
    assert len(long) == 255
    assert re.search(r"x-[0-9a-f]{16}\.yaml$", long)
    assert outcomes(pytester.runpytest()) == {"passed": 6}


def test_two_tests_in_one_file_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_app="""
        import pytest

        pytestmark = pytest.mark.upstash_recording

        @pytest.mark.parametrize("text", ["a/b", "a:b", "c"])
        def test_any(text):
            pass

        def test_Any_case(): pass
        def test_any_case(upstash_recording): pass
        """
    )
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 3, "errors": 2}
    result.stdout.fnmatch_lines(
        [
            "test_app.py::test_any?a/b? and test_app.py::test_any?a:b? would have the same "
            "recording, *test_any?a-b?.yaml: rename one, *",
            "test_app.py::test_Any_case and test_app.py::test_any_case would have the same *",
        ]
    )
    # One of them alone does no harm.
    assert outcomes(pytester.runpytest(*LOCALLY, "-k", "a:b")) == {"passed": 1, "deselected": 4}


def test_what_varies_is_declared_with_the_marker(pytester: pytest.Pytester) -> None:
    test = """
        import uuid
        from datetime import datetime, timezone
        import pytest
        from upstash_state import redis_get_all_orders, redis_save_order

        pytestmark = pytest.mark.upstash_recording(varying_keys=["order:*"])

        @pytest.mark.upstash_recording(varying=["created_at"])
        def test_new():
            order_id = uuid.uuid4().hex
            order = {"created_at": datetime.now(timezone.utc), "total": 1}
            assert redis_save_order(order_id, order)
            assert redis_get_all_orders() == {order_id: order}
    """
    pytester.makepyfile(test_app=test)
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    assert outcomes(pytester.runpytest()) == {"passed": 1}
    pytester.makepyfile(test_app=test.replace('"total": 1', '"total": 2'))
    assert outcomes(pytester.runpytest()) == {"failed": 1}
    pytester.makepyfile(test_app=test.replace("datetime.now(timezone.utc)", '"now"'))
    assert outcomes(pytester.runpytest()) == {"failed": 1}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [("alow_unused=True", "* 'alow_unused'*"), ("'shared.yaml'", "*"), ("varying=1", "*'int' *")],
)
def test_a_marker_with_other_arguments_is_refused(
    pytester: pytest.Pytester, arguments: str, complaint: str
) -> None:
    pytester.makepyfile(test_app=SAVE.replace("recording\n", f"recording({arguments})\n"))
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(
        [
            "upstash_recording and upstash_recording_config take allow_unused, scope, varying and "
            f"varying_keys, by name: {complaint} (test_app.py::test_save)"
        ]
    )


def test_faults_take_one_line(pytester: pytest.Pytester) -> None:
    test = """
        import pytest
        from upstash_state import redis_save_order

        @pytest.mark.parametrize("fault", ["outage", "slow", "wrong token", "quota"])
        def test_down(upstash_recording, fault):
            upstash_recording.fail_next(8 if fault == "outage" else 2, fault)
            for _ in range(2):
                assert not redis_save_order("1", {})
            assert redis_save_order("1", {})
    """
    pytester.makepyfile(test_app=test)
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 4}
    assert outcomes(pytester.runpytest()) == {"passed": 4}
    pytester.makepyfile(test_app=test.replace("else 2", "else 4"))
    result = pytester.runpytest("-k", "quota")
    assert outcomes(result) == {"failed": 1, "deselected": 3}
    pytester.makepyfile(
        test_app=test.replace(
            "assert redis_save",
            "upstash_recording.fail_next(1, fault)\n            assert not redis_save",
        )
    )
    result = pytester.runpytest("-k", "slow", "-vv")
    assert outcomes(result) == {"failed": 1, "deselected": 3}
    result.stdout.fnmatch_lines(["not sent: SET order:1 (exchange 1); *"])


@pytest.mark.parametrize(
    ("recorded", "changed"),
    [
        ("- SET", "- SETEX"),
        ("order:1", "order:2"),
        ('"total": 1', '"total": 2'),
        ('"total": 1', '"total": "1"'),
        ('"total"', '"sum"'),
        ("- EX", "- PX"),
        ("604800", "604801"),
        ("result: OK", "result: KO"),
    ],
)
def test_a_changed_recording_fails_its_test(
    pytester: pytest.Pytester, recorded: str, changed: str
) -> None:
    pytester.makepyfile(test_app=SAVE.replace("    assert redis_save", "    redis_save"))
    pytester.runpytest(*LOCALLY)
    (file,) = pytester.path.glob("recordings/*/*")
    text = file.read_text(encoding="utf-8")
    assert recorded in text
    file.write_text(text.replace(recorded, changed), encoding="utf-8")
    expected = {"passed": 1} if "OK" in recorded else {"failed": 1}
    assert outcomes(pytester.runpytest()) == expected


def test_without_yaml_it_says_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_app=SAVE)
    pytester.makeconftest("import sys; sys.modules['yaml'] = None")
    result = alone(pytester)
    assert outcomes(result) == {"errors": 1}
    result.stdout.fnmatch_lines(["*pip install PyYAML*"])


def test_an_empty_recording_is_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_app="def test_nothing(upstash_recording): pass")
    assert outcomes(pytester.runpytest(*LOCALLY)) == {"passed": 1}
    (file,) = pytester.path.glob("recordings/*/*")
    assert file.read_text(encoding="utf-8") == dump([])
    assert outcomes(pytester.runpytest()) == {"passed": 1}
