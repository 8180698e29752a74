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
from upstash_state.recording.explain import mismatches, to_declare
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


def replaying(*recorded: Request, varying: Varying | None = None) -> Replay:
    ok = b'{"result":"OK"}'
    return Replay([Exchange(one, 200, ok) for one in recorded], varying or Varying())


def explained(replay: Replay, *sent: Request, **environ: str) -> list[str]:
    for one in sent:
        assert replay.answer(one) is None
    lines, _ = mismatches(replay, replay.unused, environ)
    return lines


def declared(recorded: Request, sent: Request, varying: Varying | None = None) -> str:
    replay = replaying(recorded, varying=varying)
    assert replay.answer(sent) is None
    _, values = mismatches(replay, replay.unused, {})
    advice = to_declare(values, replay.varying, NOW.timestamp(), ids=True)
    return str(advice or "")


def foreseen(requests: list[Request], varying: Varying | None = None) -> str:
    varying = varying or Varying()
    values = [value for one in requests for value in varying.values(one)]
    return str(to_declare(values, varying, NOW.timestamp(), ids=False) or "")


class TestWhatVaries:
    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            ("2025-01-01T00:00:00.5+00:00", NOW.isoformat()),
            ("2025-01-01", NOW.date().isoformat()),
            ("23:59:01", "05:06:07"),
            ("23:59", "05:06"),
            (OF_TIME, RANDOM),
            (OF_TIME.replace("-", ""), RANDOM.replace("-", "")),
            ("0123456789abcdef", "fedcba9876543210"),
            (str(int(NOW.timestamp()) - 999_999), str(int(NOW.timestamp()))),
            (NOW.timestamp() - 999_999.5, NOW.timestamp() + 0.25),
            (f"made on 2025-01-01 as {OF_TIME}", f"made on {NOW.date()} as {RANDOM}"),
        ],
    )
    def test_values_that_are_made_anew_are_to_be_declared(
        self, recorded: object, sent: object
    ) -> None:
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=1)) == 'varying=["at"]'
        # What else differs is to be recorded again.
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=2)) == 'varying=["at"]'

    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            *(("Zoë", "Bob"), (17, 18), ("17", "18"), (17, "17"), (17, 17.5), (True, False)),
            *((None, 1), ([1], [1, 2]), ({"a": 1}, {"b": 1}), ("", "17"), ("new", "accepted")),
            *(("14:30", "14:45"), ("2024-03-04", "2024-03-05"), ("deadbeef", "decade12")),
            ("2026-03-04", NOW.isoformat()),
            ("whenever", NOW.isoformat()),
        ],
    )
    def test_other_changes_are_news(self, recorded: object, sent: object) -> None:
        assert declared(saved(at=recorded, n=1), saved(at=sent, n=1)) == ""

    def test_a_declared_value_of_another_kind_is_explained_and_not_to_be_declared(self) -> None:
        varying = Varying(("at", "n"))
        replay = replaying(saved(at=OF_TIME, n=1), varying=varying)
        assert explained(replay, saved(at=NOW.isoformat(), n=None)) == [
            f'at is "{NOW.isoformat()}", recorded "{OF_TIME}": declared as varying, but it '
            "must be a UUID (SET order:1, exchange 1)",
            "    n is null, recorded 1: declared as varying, but it must be a value of type int",
        ]
        assert declared(saved(at=OF_TIME), saved(at=NOW.isoformat()), varying) == ""

    def test_paths_are_as_they_are_declared(self) -> None:
        first = {"a": {"at": 1}, "log": [{"at": "05:06", "s": "x"}, {"at": "04:07", "s": "y"}]}
        second = {"a": {"at": 1}, "log": [{"at": "05:06", "s": "x"}, {"at": "05:08", "s": "y"}]}
        assert declared(saved(**first), saved(**second)) == 'varying=["log[].at"]'
        replay = replaying(saved(**first), varying=Varying(("log[].at",)))
        assert replay.answer(saved(**second)) is not None

    def test_lists_of_lists_are_not_mixed_up(self) -> None:
        replay = replaying(saved(a=[[1], [2, 3]]))
        assert explained(replay, saved(a=[[1, 2], [3]])) == [
            "a[1][0] is 3, recorded 2 (SET order:1, exchange 1)",
            "    a[1][1] is nothing, recorded 3",
            "    a[0][1] is 2, recorded nothing",
        ]

    def test_what_is_declared_already_is_part_of_it(self) -> None:
        """Since what a marker says replaces what a wider one says."""
        varying = Varying(("at",), ("cart:*",))
        sent = saved(at=2, new=NOW.isoformat())
        advice = declared(saved(at=1, new="2025-01-01T00:00"), sent, varying)
        assert advice == 'varying=["at", "new"], varying_keys=["cart:*"]'

    @pytest.mark.parametrize(
        ("recorded", "sent", "pattern"),
        [
            (f"order:{OF_TIME}", f"order:{RANDOM}", "order:*"),
            ("order:2025-01-02T03:04:05", f"order:{NOW:%Y-%m-%dT%H:%M:%S}", "order:*"),
            ("cart:17:a:0123456789abcdef", "cart:17:a:fedcba9876543210", "cart:17:a:*"),
            ("order_0123456789abcdef", "order_fedcba9876543210", ""),
            *(("order:17", "order:18", ""), ("order:a", "order:b", "")),
        ],
    )
    def test_keys(self, recorded: str, sent: str, pattern: str) -> None:
        advice = f'varying_keys=["{pattern}"]' if pattern else ""
        assert declared(saved(recorded), saved(sent)) == advice
        assert declared(request("GET", recorded), request("GET", sent)) == advice

    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            (request("GET", OF_TIME), request("GET", RANDOM)),
            (saved("order:1"), request("SET", "order:1", "{}", "EX", str(int(NOW.timestamp())))),
            (request("SCAN", "0", "MATCH", OF_TIME), request("SCAN", "0", "MATCH", RANDOM)),
            (request("GET", f"order:{OF_TIME}"), request("DEL", f"order:{RANDOM}")),
        ],
    )
    def test_others_are_not_to_be_declared(self, recorded: Request, sent: Request) -> None:
        assert declared(recorded, sent) == ""


class TestMismatches:
    def test_only_what_differs_is_shown_the_nearest_exchange_first(self) -> None:
        replay = replaying(
            saved(name="Zoë", total=1, items=[{"id": 1}, {"id": 2}]), saved("order:2", total=1)
        )
        sent = saved(name="Zoë", total=2, items=[{"id": 1}, {"id": 3, "new": True}])
        assert explained(replay, sent) == [
            "total is 2, recorded 1 (SET order:1, exchange 1)",
            "    items[1].id is 3, recorded 2",
            "    items[1].new is true, recorded nothing",
            "not sent: SET order:2 (exchange 2); allow_unused=True lets this pass",
        ]

    def test_long_texts_are_shown_where_they_differ(self) -> None:
        replay = replaying(saved(note="x" * 500 + "a"))
        (line,) = explained(replay, saved(note="x" * 500 + "b"))
        assert line == f'note is …{"x" * 30}b", recorded …{"x" * 30}a" (SET order:1, exchange 1)'

    def test_a_pipeline_is_explained_command_by_command(self) -> None:
        one, two = ("SET", "a", '{"n": 1}'), ("DEL", "b")
        replay = replaying(Request("/pipeline", (one, two)), Request("/pipeline", (one, two)))
        assert explained(replay, Request("/pipeline", (one, ("DEL", "c"), two)))[:3] == [
            "command 2: key is c, recorded b (pipeline of SET a, DEL c, DEL b, exchange 1)",
            "    command 3: command is DEL, recorded nothing",
            "    command 3: key is b, recorded nothing",
        ]

    def test_the_variable_that_is_to_blame_is_named(self) -> None:
        sent = request("SET", "dev:1", "{}", "EX", "60")
        variables = {"UPSTASH_STATE_TTL": "60", "UPSTASH_STATE_PREFIX": "dev:"}
        assert explained(replaying(saved()), sent, **variables) == [
            "key is dev:1, recorded order:1 (SET dev:1, exchange 1)",
            "    EX is 60, recorded 604800",
            "    UPSTASH_STATE_TTL=60 is set",
            "    UPSTASH_STATE_PREFIX=dev: is set",
        ]
        assert len(explained(replaying(saved()), saved(n=1), **variables)) == 1

    def test_the_thread_of_a_request_is_named(self) -> None:
        replay = replaying(saved())
        replay.answer(saved(n=1), "worker")
        assert explained(replay) == [
            "n is 1, recorded nothing (SET order:1, exchange 1, by thread worker)"
        ]

    def test_what_is_read_before_it_is_written_is_another_order(self) -> None:
        read, other = request("GET", "order:1"), request("GET", "order:2")
        saves, deletes = saved(), request("DEL", "order:2", "order:1")
        all_keys, count = request("SCAN", "0"), request("DBSIZE")
        for first, second, matters in (
            *((saves, read, True), (read, saves, True), (saved(n=1), saved(n=2), True)),
            *((saves, deletes, True), (saves, all_keys, True), (count, saves, True)),
            *((saves, other, False), (read, request("MGET", "order:1"), False)),
            *((all_keys, read, False), (saves, saved("order:2"), False), (count, all_keys, False)),
        ):
            replay = replaying(first, second)
            assert replay.answer(second) is not None
            assert replay.answer(first) is not None
            said = f"sent in another order: {second} (exchange 2) before {first} (exchange 1)"
            assert explained(replay) == ([said] if matters else [])

    def test_threads_have_no_order(self) -> None:
        replay = replaying(saved(), request("GET", "order:1"))
        assert replay.answer(request("GET", "order:1"), None) is not None
        assert replay.answer(saved()) is not None
        assert explained(replay) == []


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
            "05:05",
            "05:06:59",
        ],
    )
    def test_what_is_made_anew_in_each_run(self, value: object) -> None:
        order = saved(a={"log": [{"new": value}]}, total=12.5, note=f"see {value}!")
        assert foreseen([order]) == 'varying=["a.log[].new", "note"]'
        assert foreseen([order], Varying(("a.log[].new", "note"))) == ""
        # What is part of a declared value is declared.
        assert foreseen([order], Varying(("a", "note"))) == ""

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
        assert foreseen([saved(at=value)]) == ""

    def test_keys(self) -> None:
        requests = [
            request("GET", f"order:{uuid.uuid4()}"),
            request("DEL", f"cart:{uuid.uuid4().hex}:x", f"order:{uuid.uuid4()}"),
            request("SCAN", "0", "MATCH", "order:*"),
        ]
        assert foreseen(requests) == 'varying_keys=["order:*", "cart:*:x"]'
        assert foreseen(requests, Varying(keys=("order:*", "*"))) == ""


def test_a_red_replay_says_what_to_paste(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    order = Exchange(saved(at="2025-01-02T03:04:05", total=1), 200, b'{"result":"OK"}')
    path.write_text(dump([order]), encoding="utf-8")
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_save_order("1", {"at": datetime.now(), "total": 1})
    text = str(failed.value)
    assert "If these values differ in every run, declare them:" in text
    assert f'\n    recording({str(path)!r}, varying=["at"])' in text
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_save_order("1", {"at": "2025-01-02T03:04:05", "total": 2})
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
    assert f'If so, declare them:\n    recording({str(path)!r}, varying=["at"])' in caplog.text
    caplog.clear()
    with recording(path, mode="all", varying="at"):
        redis_save_order("1", {"at": datetime.now(timezone.utc), "total": 1})
    assert caplog.text == ""


def test_a_get_is_not_compared_with_a_set(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump([Exchange(request("PING"), 200, b'{"result":"PONG"}')]))
    with pytest.raises(RecordingMismatchError) as failed, recording(path):
        redis_get_order("1")
    assert str(failed.value).startswith("not recorded (GET order:1)\nnot sent: PING (exchange 1);")


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
    result.stdout.fnmatch_lines(
        ["*= upstash_state =*", "*test_new.yaml holds values that seem to*", shown]
    )
    result = pytester.runpytest()
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["If these values differ in every run, declare them:", shown])
    pytester.makepyfile(
        test_app=test.replace('@pytest.mark.upstash_recording(varying=["total"])', line)
    )
    result = pytester.runpytest(*LOCALLY)
    result.stdout.no_fnmatch_line("*declare*")
    assert outcomes(pytester.runpytest()) == {"passed": 1}
