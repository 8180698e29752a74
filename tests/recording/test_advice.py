"""What to do about a red replay: what to declare as varying, ready to paste."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from upstash_state import redis_get_order, redis_save_order
from upstash_state.local import LocalEndpoint
from upstash_state.recording import RecordingMismatchError, recording
from upstash_state.recording.exchange import Exchange, Request
from upstash_state.recording.explain import foreseen, what_varies
from upstash_state.recording.file import dump
from upstash_state.recording.match import Replay, Varying

from .plugin import LOCALLY, outcomes

pytest_plugins = ["pytester"]

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
# Fixed, so that a test has the same name in each run.
RANDOM, ANOTHER = "d8dcdf13-2412-478a-b728-e67a6e4bcbdc", "2074794c-b415-483b-832c-4099b8c86a1d"
OF_TIME = "27294a78-e884-11f1-8c3d-02fc00000001"


def request(*command: str) -> Request:
    return Request("/", (command,))


def saved(key: str = "order:1", **order: object) -> Request:
    return request("SET", key, json.dumps(order), "EX", "604800")


def declared(recorded: Request, *sent: Request, varying: Varying | None = None) -> str | None:
    replay = Replay([Exchange(recorded, 200, b'{"result":"OK"}')], varying or Varying())
    advice = what_varies(sent, replay)
    return None if advice is None else str(advice)


class TestWhatVaries:
    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            ("2026-03-04T05:06:07+00:00", "2027-01-01T00:00:00.5+00:00"),
            ("2026-03-04", "2027-01-01"),
            ("05:06", "23:59:01"),
            ("12345678-1234-4234-8234-123456789abc", RANDOM),
            ("0123456789abcdef", RANDOM.replace("-", "")),
            ("17", "18"),
            (1764037527.25, 1764037999.5),
            (17, 18),
        ],
    )
    def test_values_that_vary_by_their_nature_are_to_be_declared(
        self, recorded: object, sent: object
    ) -> None:
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=1)) == 'varying=["at"]'

    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            ("Zoë", "Bob"),
            (17, "17"),
            (17, 17.5),
            (True, False),
            (None, 1),
            ([1], [1, 2]),
            ({"a": 1}, {"b": 1}),
            ("2026-03-04", "2027-01-01T00:00:00"),
            ("", "17"),
        ],
    )
    def test_other_changes_are_news(self, recorded: object, sent: object) -> None:
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=1)) is None
        # Even beside something that varies.
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=2)) is None

    def test_paths_are_as_they_are_declared(self) -> None:
        first = {"a": {"at": 1}, "log": [{"at": "05:06", "s": "x"}, {"at": "05:07", "s": "y"}]}
        second = {"a": {"at": 2}, "log": [{"at": "05:06", "s": "x"}, {"at": "05:08", "s": "y"}]}
        advice = declared(saved(**first), saved(**second))
        assert advice == 'varying=["a.at", "log[].at"]'
        replay = Replay(
            [Exchange(saved(**first), 200, b'{"result":"OK"}')], Varying(["a.at", "log[].at"])
        )
        assert replay.answer(saved(**second)) is not None

    def test_lists_of_lists_are_not_mixed_up(self) -> None:
        assert declared(saved(a=[[1], [2, 3]]), saved(a=[[1, 2], [3]])) is None
        replay = Replay([Exchange(saved(a=[[1], [2, 3]]), 200, b"")], Varying())
        assert replay.answer(saved(a=[[1, 2], [3]])) is None

    def test_what_is_declared_already_is_part_of_it(self) -> None:
        """Since what a marker says replaces what a wider one says."""
        varying = Varying(["at"], ["cart:*"])
        advice = declared(saved(at=1, n=1), saved(at=2, n=2), varying=varying)
        assert advice == 'varying=["at", "n"], varying_keys=["cart:*"]'
        assert declared(saved(at=1, n=1), saved(at=2, n="2"), varying=varying) is None

    @pytest.mark.parametrize(
        ("recorded", "sent", "pattern"),
        [
            ("order:17", "order:18", "order:*"),
            (f"order:{RANDOM}", f"order:{ANOTHER}", "order:*"),
            ("cart:17:a:0123456789abcdef", "cart:18:a:fedcba9876543210", "cart:*:a:*"),
            ("order_0123456789abcdef", "order_fedcba9876543210", "order_*"),
        ],
    )
    def test_keys(self, recorded: str, sent: str, pattern: str) -> None:
        assert declared(saved(recorded), saved(sent)) == f'varying_keys=["{pattern}"]'
        assert declared(request("GET", recorded), request("GET", sent)) is not None

    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            (request("GET", "order:a"), request("GET", "order:b")),
            (request("GET", "17"), request("GET", "18")),
            (saved("order:1"), request("SET", "order:1", "{}", "EX", "604801")),
            (request("SCAN", "0", "MATCH", "a:1:*"), request("SCAN", "0", "MATCH", "a:2:*")),
            (request("GET", "order:1"), request("DEL", "order:2")),
            (request("GET", "order:1"), request("GET", "order:1")),
            (request("MGET", "a:1", "a:2"), request("MGET", "a:1")),
        ],
    )
    def test_others_are_not_to_be_declared(self, recorded: Request, sent: Request) -> None:
        assert declared(recorded, sent) is None

    def test_all_that_does_not_fit_must_be_of_that_kind(self) -> None:
        recorded = saved(at=1, name="Zoë")
        assert declared(recorded, saved(at=2, name="Zoë"), saved(at=3, name="Zoë"))
        assert declared(recorded, saved(at=2, name="Zoë"), saved(at=1, name="Bob")) is None


class TestForeseen:
    @pytest.mark.parametrize(
        "value",
        [
            NOW.isoformat(),
            NOW.astimezone(timezone(timedelta(hours=13))).isoformat(),
            (NOW + timedelta(minutes=45)).strftime("%Y-%m-%d %H:%M"),
            NOW.date().isoformat(),
            RANDOM,
            OF_TIME,
            RANDOM.replace("-", ""),
            RANDOM.replace("-", "").upper(),
            NOW.timestamp() + 0.25,
            int(NOW.timestamp()),
            int(NOW.timestamp() * 1000),
            str(int(NOW.timestamp())),
        ],
    )
    def test_what_is_made_anew_in_each_run(self, value: object) -> None:
        order = saved(a={"log": [{"new": value}]}, total=12.5, note=f"see {value}!")
        assert str(foreseen([order], Varying(), NOW.timestamp())) == 'varying=["a.log[].new"]'
        assert foreseen([order], Varying(["a.log[].new"]), NOW.timestamp()) is None

    @pytest.mark.parametrize(
        "value",
        [
            *("2024-12-06T14:30:00+00:00", "1999-01-01", 1733495400, "14:30", 5866, "5866", 12.5),
            *(
                "12345678-1234-1234-1234-123456789abc",
                "0123456789abcdef",
                True,
                None,
                [],
                "",
                "Zoë",
            ),
        ],
    )
    def test_what_is_not(self, value: object) -> None:
        assert foreseen([saved(at=value)], Varying(), NOW.timestamp()) is None

    def test_keys(self) -> None:
        requests = [
            request("GET", f"order:{uuid.uuid4()}"),
            request("DEL", f"cart:{uuid.uuid4().hex}:x", f"order:{uuid.uuid4()}"),
            request("SCAN", "0", "MATCH", "order:*"),
        ]
        advice = foreseen(requests, Varying(), NOW.timestamp())
        assert str(advice) == 'varying_keys=["order:*", "cart:*:x"]'
        assert foreseen(requests, Varying(keys=["order:*", "*"]), NOW.timestamp()) is None


def test_a_red_replay_says_what_to_paste(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    order = Exchange(saved(at="05:06", total=1), 200, b'{"result":"OK"}')
    path.write_text(dump([order]), encoding="utf-8")
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_save_order("1", {"at": "05:07", "total": 1})
    text = str(failed.value)
    assert "recording again does not help" in text
    assert f'\n    recording({str(path)!r}, varying=["at"])' in text
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_save_order("1", {"at": "05:07", "total": "1"})
    assert "varying=" not in str(failed.value)


def test_recording_says_so_too(
    tmp_path: Path,
    endpoint: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("UPSTASH_REDIS_REST_URL", endpoint.url)
    monkeypatch.setenv("UPSTASH_REDIS_REST_TOKEN", endpoint.token)
    path = tmp_path / "r.yaml"
    with recording(path, mode="all"):
        redis_save_order("1", {"at": datetime.now(timezone.utc), "total": 1})
    assert f'If so, declare it:\n    recording({str(path)!r}, varying=["at"])' in caplog.text
    caplog.clear()
    with recording(path, mode="all", varying="at"):
        redis_save_order("1", {"at": datetime.now(timezone.utc), "total": 1})
    assert caplog.text == ""


def test_a_get_is_not_compared_with_a_set(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump([Exchange(request("PING"), 200, b'{"result":"PONG"}')]))
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_get_order("1")
    assert "    No GET to / is recorded.\n" in str(failed.value)
    assert "---" not in str(failed.value)


def test_the_plugin_says_what_to_paste(pytester: pytest.Pytester) -> None:
    test = """
        import uuid
        from datetime import datetime, timezone
        import pytest
        from upstash_state import redis_save_order

        @pytest.mark.upstash_recording(varying=["total"])
        def test_new():
            order = {"created_at": datetime.now(timezone.utc), "total": 1}
            assert redis_save_order(uuid.uuid4().hex, order)
    """
    pytester.makepyfile(test_app=test)
    result = pytester.runpytest(*LOCALLY)
    assert outcomes(result) == {"passed": 1}
    line = (
        '@pytest.mark.upstash_recording(varying=["total", "created_at"], varying_keys=["order:*"])'
    )
    shown = f"    {line}".replace("[", "[[]")
    result.stdout.fnmatch_lines(["*= upstash_state =*", "*test_new.yaml holds what looks*", shown])
    result = pytester.runpytest()
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["*recording again does not help*", shown])
    pytester.makepyfile(
        test_app=test.replace('@pytest.mark.upstash_recording(varying=["total"])', line)
    )
    result = pytester.runpytest(*LOCALLY)
    result.stdout.no_fnmatch_line("*declare*")
    assert outcomes(pytester.runpytest()) == {"passed": 1}
