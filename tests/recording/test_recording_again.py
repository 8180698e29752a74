"""Recording what is recorded already: what changed, what did not, and what no test uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from .plugin import LOCALLY, outcomes

pytest_plugins = ["pytester"]

APP = """
    import time
    import uuid
    from datetime import datetime, timezone
    import pytest
    from upstash_state import *

    @pytest.fixture(scope="module", autouse=True)
    def menu():
        assert redis_save_order("menu", {"at": datetime.now(timezone.utc), "n": 1})

    pytestmark = pytest.mark.upstash_recording(
        scope="module", varying=["at"], varying_keys=["order:*"]
    )

    def test_new():
        for n in range(3):
            order_id, order = uuid.uuid4().hex, {"at": datetime.now(timezone.utc), "n": n}
            assert redis_save_order(order_id, order)
            assert redis_get_order(order_id) == order
        assert len(redis_get_all_orders()) == 4
        client = get_redis_client()
        assert client.pipeline().set("k", 1, pxat=int(time.time() + 60) * 1000).get("k").execute()

    def test_old():
        assert redis_get_order("menu")["n"] == 1
"""


def files(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (path.read_text(encoding="utf-8"), path.stat().st_ino)
        for path in folder.glob("recordings/**/*.yaml")
    }


def test_nothing_changed_leaves_the_files_as_they_are(pytester: pytest.Pytester) -> None:
    test = pytester.makepyfile(test_app=APP)
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 2}
    result.stdout.fnmatch_lines(
        [
            "*= upstash_state =*",
            "recordings/test_app/test_new.yaml recorded, exchanges: *",
            "recordings/test_app/test_old.yaml recorded, exchanges: 1",
            "recordings/test_app.yaml recorded, exchanges: 1",
        ]
    )
    before = files(pytester.path)
    # Also what somebody has added stays.
    old = pytester.path / "recordings" / "test_app" / "test_old.yaml"
    old.write_text("# Reviewed.\n" + old.read_text(encoding="utf-8"), encoding="utf-8")
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 2}
    result.stdout.fnmatch_lines(["recordings/test_app/test_new.yaml unchanged, exchanges: *"])
    after = files(pytester.path)
    assert after.pop("test_old.yaml")[0].startswith("# Reviewed.\n")
    assert before.pop("test_old.yaml")
    assert after == before
    assert outcomes(pytester.runpytest()) == {"passed": 2}
    test.write_text(test.read_text().replace('"n": 1', '"n": 2').replace("== 1", "== 2"))
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 2}
    result.stdout.fnmatch_lines(
        [
            "recordings/test_app/test_new.yaml recorded, *",
            "recordings/test_app/test_old.yaml recorded, *",
            "recordings/test_app.yaml recorded, *",
        ]
    )
    assert outcomes(pytester.runpytest()) == {"passed": 2}


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("status: 200", "status: 201"),
        ("answer: {result: OK}", "answer: {result: KO}"),
        ("answer: {result: OK}", "body: OK"),
        ("  status: 200", "  phase: teardown\n  status: 200"),
        ("  status: 200", "  status: 200\n  headers: {Retry-After: '1'}"),
        ("- EX", "- PX"),
        ('"n": 1', '"n": true'),
        ("format: 1", "format: 2"),
        ("", ""),
    ],
)
def test_what_differs_is_written(pytester: pytest.Pytester, line: str, changed: str) -> None:
    pytester.makepyfile(
        test_app="""
        from upstash_state import redis_save_order

        def test(upstash_recording):
            assert redis_save_order("1", {"n": 1})
        """
    )
    pytester.runpytest(*LOCALLY)
    (path,) = pytester.path.glob("recordings/*/*")
    text = path.read_text(encoding="utf-8")
    twice = text.split("exchanges:\n")[1]
    other = text.replace(line, changed) if line else f"{text}{twice}"
    assert other != text
    path.write_text(other, encoding="utf-8")
    pytester.runpytest(*LOCALLY)
    assert path.read_text(encoding="utf-8") == text


def test_recordings_that_no_test_uses_are_named(pytester: pytest.Pytester) -> None:
    one = "from upstash_state.recording import recording\ndef test_{}(upstash_recording): pass\n"
    pytester.makepyfile(
        test_app=one.format("used") + one.format("gone[a]").replace("[a]", ""),
        test_deleted=one.format("any"),
        test_elsewhere=one.format("other"),
    )
    pytester.runpytest(*LOCALLY)
    # Of `recording(…)`, and of a script that is no test.
    for other in ("shop.yaml", "shop/a.yaml", "test_app.yaml"):
        path = pytester.path / "recordings" / other
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    pytester.makepyfile(shop="", test_app=one.format("used"))
    (pytester.path / "test_deleted.py").unlink()
    result = pytester.runpytest(*LOCALLY, "test_app.py", "-k", "nothing")
    lines = [line for line in result.outlines if line.endswith(": no test uses it")]
    assert sorted(lines) == [
        "recordings/test_app.yaml: no test uses it",
        "recordings/test_app/test_gone.yaml: no test uses it",
        "recordings/test_deleted/test_any.yaml: no test uses it",
    ]
    for arguments in (("test_app.py::test_used", *LOCALLY), ("--upstash-record=once",), ()):
        result = pytester.runpytest(*arguments)
        result.stdout.no_fnmatch_line("*no test uses it")
