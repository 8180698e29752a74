"""Making and replaying recordings without pytest's plugin: `recording`, matching, faults."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from upstash_state import (
    AnswerError,
    AuthenticationError,
    CircuitOpenError,
    EndpointTimeoutError,
    QuotaExceededError,
    UnavailableError,
    UpstashRedis,
    get_redis_client,
    redis_delete_order,
    redis_flush,
    redis_get_all_orders,
    redis_get_order,
    redis_save_order,
    redis_save_orders,
)
from upstash_state.errors import NotRecordedError
from upstash_state.local import LocalEndpoint
from upstash_state.recording import (
    Recording,
    RecordingError,
    RecordingMismatchError,
    recording,
)
from upstash_state.recording.exchange import Exchange, Request
from upstash_state.recording.file import dump, load
from upstash_state.recording.match import Replay, Varying, same_kind
from upstash_state.recording.recorder import in_use

URL, TOKEN = "UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"
HOST = "eu1-merry-cat-31415.upstash.example"
SECRET = "a-token-that-is-of-no-use-anywhere"
PING = Exchange(Request("/", (("PING",),)), 200, b'{"result":"PONG"}')


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seconds: float) -> None:
        raise AssertionError(f"waited for {seconds} s")

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr("time.sleep", refuse)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "r.yaml"


def credentials(monkeypatch: pytest.MonkeyPatch, url: str, token: str) -> None:
    monkeypatch.setenv(URL, url)
    monkeypatch.setenv(TOKEN, token)


def said(*command: str, result: object = "OK", status: int = 200) -> Exchange:
    return Exchange(Request("/", (command,)), status, json.dumps({"result": result}).encode())


def failure(
    path: Path,
    use: Callable[[Recording], object],
    error: type[BaseException] = RecordingError,
    **options: Any,
) -> str:
    """What a recording complains of that is used like that."""
    with pytest.raises(error) as failed, recording(path, **options) as in_use:
        use(in_use)
    return str(failed.value)


def file(path: Path, *exchanges: Exchange) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(exchanges), encoding="utf-8")
    return path


class TestMaking:
    def test_what_was_recorded_is_replayed(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orders = {"1": {"name": "Zoë", "at": datetime(2026, 1, 1, tzinfo=timezone.utc)}, "2": {}}

        def scenario() -> None:
            assert redis_save_orders(orders) == 2
            assert redis_get_all_orders() == orders
            assert redis_delete_order("1") is True
            assert redis_get_order("1") is None
            client = get_redis_client()
            assert client is not None
            assert client.pipeline().set("k", 1).execute_command("INCR", "k").execute() == [True, 2]

        with monkeypatch.context() as patch:
            credentials(patch, endpoint.url, endpoint.token)
            with recording(path, mode="once") as made:
                assert not made.replays
                scenario()
        used = endpoint.usage()
        assert used.requests == 7
        endpoint.close()
        with recording(path) as replayed:
            assert replayed.replays
            scenario()
        assert endpoint.usage() == used
        text = path.read_text(encoding="utf-8")
        assert endpoint.token not in text
        assert "127.0.0.1" not in text

    def test_once_records_what_has_no_file_and_all_records_anew(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)
        for mode, order, stands in (
            ("once", {"n": 1}, {"n": 1}),
            ("once", {"n": 1}, {"n": 1}),
            ("all", {"n": 2}, {"n": 2}),
            ("none", {"n": 2}, {"n": 2}),
        ):
            with recording(path, mode=mode):  # type: ignore[arg-type]
                assert redis_save_order("1", order) is True
            (saved,) = load(path.read_text())
            assert saved.request.commands[0][2] == json.dumps(stands)
        assert endpoint.usage().requests == 2

    def test_a_failing_block_leaves_the_file_as_it_was(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)

        def use(made: Recording) -> None:
            assert redis_save_order("1", {}) is True
            raise ZeroDivisionError

        assert failure(path, use, ZeroDivisionError, mode="all") == ""
        assert not path.exists()
        file(path, PING)
        assert failure(path, use, ZeroDivisionError, mode="all") == ""
        assert path.read_text() == dump([PING])

    def test_a_request_without_an_answer_is_not_left_out_silently(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)

        def use(made: Recording) -> None:
            endpoint.close()
            assert redis_save_order("1", {}) is False

        complaint = failure(path, use, mode="all")
        assert "r.yaml is not written: SET order:1 got no answer (connect)" in complaint
        assert not path.exists()

    def test_a_request_that_was_answered_on_a_second_try_is_recorded_once(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        with responses.RequestsMock() as mock:
            mock.post(f"https://{HOST}", body=requests.ConnectionError("reset"))
            mock.post(f"https://{HOST}", json={"result": "PONG"})
            with recording(path, mode="all"):
                assert UpstashRedis.from_env().ping()
        assert load(path.read_text()) == [PING]

    def test_no_credentials_say_what_to_do(self, path: Path) -> None:
        complaint = failure(path, lambda made: None, mode="all")
        assert f"cannot be recorded: {URL} is not set, {TOKEN} is not set" in complaint
        # The options of the pytest plugin do nothing for it.
        assert "upstash-state serve" in complaint
        assert "--upstash-local" not in complaint

    @responses.activate
    def test_only_what_matters_of_an_answer_is_kept(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}/some/path", SECRET)
        synced = {"Upstash-Sync-Token": "sync-1", "Server": "gateway", "Date": "today"}
        responses.post(f"https://{HOST}/some/path/", json={"result": "PONG"}, headers=synced)
        responses.post(
            f"https://{HOST}/some/path/pipeline",
            body="<html>busy</html>",
            status=503,
            content_type="text/html",
            headers={**synced, "Retry-After": "0"},
        )
        with recording(path, mode="all"):
            assert get_redis_client()
            assert redis_save_orders({"1": {}}) == 0
        ping, save, *retries = load(path.read_text())
        assert ping == PING
        assert retries == [save] * 3
        assert save.headers == {"Retry-After": "0"}
        assert (save.status, save.body) == (503, b"<html>busy</html>")
        # The database is to know, also now, what it has to show this client.
        assert responses.calls[1].request.headers["Upstash-Sync-Token"] == "sync-1"

    @responses.activate
    def test_a_compressed_answer_is_recorded_as_what_it_says(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        responses.post(
            f"https://{HOST}",
            body=gzip.compress(b'{ "result": "\\u00fc" }'),
            content_type="application/json",
            headers={"Content-Encoding": "gzip"},
        )
        for mode in ("all", "none"):
            with recording(path, mode=mode):  # type: ignore[arg-type]
                assert UpstashRedis.from_env().get("k") == "ü"
        assert "result: ü" in path.read_text(encoding="utf-8")

    @responses.activate
    def test_an_answer_of_another_kind_is_recorded_as_it_is(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A mock, or a gateway, may answer SCAN with anything."""
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        results: list[object] = ["OK", 1, ["0"], ["0", None], ["0", [1, ["a"]]]]
        for result in results:
            responses.post(f"https://{HOST}", json={"result": result})
        for mode in ("all", "none"):
            with recording(path, mode=mode):  # type: ignore[arg-type]
                client = UpstashRedis.from_env()
                assert [client.execute_command("SCAN", "0") for _ in results] == results

    @responses.activate
    def test_neither_token_nor_host_is_written(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        responses.post(f"https://{HOST}", json={"result": "OK"})
        with recording(path, mode="all"):
            assert redis_save_order("1", {}) is True
        assert SECRET not in path.read_text()
        assert HOST not in path.read_text()
        path.unlink()
        for secret in (SECRET, HOST):
            order = {"note": f"<{secret}>"}
            complaint = failure(path, lambda made: redis_save_order("1", order), mode="all")  # noqa: B023
            assert "exchange 1 or the file's name holds the token or the host" in complaint
            assert secret not in complaint
            assert not path.exists()

    @responses.activate
    def test_the_secrets_of_a_client_of_ones_own_are_kept_out_too(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, "https://other.example", "another-token")
        responses.post(f"https://{HOST}", json={"result": f"{SECRET}"})
        with (
            pytest.raises(RecordingError, match=r"exchange 1 .* holds the token"),
            recording(path, mode="all"),
        ):
            UpstashRedis(f"https://{HOST}", SECRET).get("k")


class TestReplaying:
    def test_no_credentials_and_no_socket_are_needed(self, path: Path, no_socket: None) -> None:
        file(path, said("SET", "order:1", "{}", "EX", "604800"))
        with recording(path):
            assert os.environ[URL].startswith("http://127.0.0.1:")
            assert redis_save_order("1", {}) is True
        assert URL not in os.environ
        assert TOKEN not in os.environ

    def test_real_credentials_are_put_aside_and_back(
        self, path: Path, no_socket: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        file(path, PING)
        with recording(path):
            client = get_redis_client()
            assert HOST not in repr(client)
            assert SECRET not in os.environ[TOKEN]
        assert os.environ[URL] == f"https://{HOST}"
        assert os.environ[TOKEN] == SECRET

    def test_each_recording_has_a_client_of_its_own(self, path: Path) -> None:
        file(path, PING)
        with recording(path):
            first = get_redis_client()
        with recording(path):
            second = get_redis_client()
        assert first is not None
        assert second is not None
        assert first is not second
        assert get_redis_client() is None

    def test_a_client_from_before_is_not_used(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)
        before = get_redis_client()
        file(path, PING)
        with recording(path):
            assert get_redis_client() is not before

    def test_requests_are_taken_only_meanwhile(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)
        inner = file(path.with_name("inner.yaml"), said("GET", "k", result="inner"))
        file(path, said("GET", "k", result="outer"), said("GET", "l", result="outer"))
        client = UpstashRedis.from_env()
        assert client.get("k") is None
        with recording(path):
            assert client.get("k") == "outer"
            with recording(inner):
                assert client.get("k") == "inner"
            assert client.get("l") == "outer"
        assert client.get("k") is None
        assert endpoint.usage().requests == 2

    def test_a_request_that_nothing_answers_fails_at_the_end(
        self, path: Path, no_socket: None, no_waiting: None
    ) -> None:
        file(path, PING, said("SET", "order:1", '{"total": 1}', "EX", "604800"))

        def use(replayed: Recording) -> None:
            for _ in range(5):
                assert redis_save_order("1", {"total": 2}) is False

        text = failure(path, use, RecordingMismatchError)
        assert text.splitlines() == [
            "total is 2, recorded 1 (SET order:1, exchange 2, sent 5 times)",
            "not sent: PING (exchange 1); allow_unused=True lets this pass",
            "",
            f"{path} does not fit this run.",
            "To record what is sent now:",
            f'    recording({str(path)!r}, mode="all")',
        ]

    def test_the_request_itself_is_refused_with_a_reason(self, path: Path) -> None:
        file(path)

        def use(replayed: Recording) -> None:
            with pytest.raises(NotRecordedError, match="the recording has no answer for GET k"):
                UpstashRedis.from_env().get("k")

        assert failure(path, use).startswith("not recorded (GET k)\n")

    def test_an_empty_answer_is_not_taken_for_one_that_was_cut(self, path: Path) -> None:
        file(path, Exchange(single("GET", "k"), 200, b""))
        with recording(path):
            client = UpstashRedis.from_env()
            with pytest.raises(AnswerError):
                client.get("k")

    def test_an_exchange_is_used_once(self, path: Path) -> None:
        file(path, said("GET", "k", result="1"), said("GET", "k", result="2"))

        def use(replayed: Recording) -> None:
            client = UpstashRedis.from_env()
            assert [client.get("k"), client.get("k")] == ["1", "2"]
            with pytest.raises(NotRecordedError):
                client.get("k")

        complaint = failure(path, use)
        assert complaint.startswith("sent more often than recorded (GET k, exchange 1)\n")
        assert "not sent" not in complaint

    def test_what_was_not_used_fails_unless_allowed(self, path: Path) -> None:
        file(path, PING, said("GET", "k"))
        complaint = failure(path, lambda replayed: UpstashRedis.from_env().ping())
        assert complaint.startswith("not sent: GET k (exchange 2); allow_unused=")
        assert "exchange 1" not in complaint
        with recording(path, allow_unused=True):
            UpstashRedis.from_env().ping()

    def test_an_exception_in_use_is_not_replaced(self, path: Path) -> None:
        file(path, PING)

        def use() -> None:
            assert redis_get_order("1") is None
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as failed, recording(path):
            use()
        if hasattr(failed.value, "add_note"):
            assert failed.value.__notes__[0].startswith("not recorded (GET order:1)")
            # It may well have been sent after that.
            assert "PING" not in failed.value.__notes__[0]
        assert in_use == []
        assert URL not in os.environ

    def test_without_notes_the_log_says_what_did_not_fit(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Exceptions of Python 3.10 take no notes."""

        class WithoutNotesError(Exception):
            def __getattribute__(self, name: str) -> Any:
                if name == "add_note":
                    raise AttributeError(name)
                return super().__getattribute__(name)

        def use(replayed: Recording) -> None:
            assert redis_get_order("1") is None
            raise WithoutNotesError

        file(path, PING)
        failure(path, use, WithoutNotesError)
        assert caplog.messages[-1].startswith("not recorded (GET order:1)\n")

    def test_threads_get_one_exchange_each(self, path: Path) -> None:
        keys = [f"k{number}" for number in range(40)] * 2
        file(path, *(said("GET", key, result=f"{key}-{n}") for n, key in enumerate(keys)))
        with recording(path):
            client = UpstashRedis.from_env()
            with ThreadPoolExecutor(16) as pool:
                values = list(pool.map(client.get, keys))
        assert sorted(map(str, values)) == sorted(f"{key}-{n}" for n, key in enumerate(keys))

    def test_works_as_a_decorator_and_with_unittest(self, path: Path) -> None:
        file(path, said("SET", "order:1", "{}", "EX", "604800"))

        class Tests(unittest.TestCase):
            @recording(path)
            def test_right(self) -> None:
                assert redis_save_order("1", {})

            @recording(path)
            def test_wrong(self) -> None:
                redis_save_order("2", {})

        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Tests).run(result)
        assert (result.testsRun, len(result.errors), len(result.failures)) == (2, 0, 1)
        assert "SET order:2" in result.failures[0][1]


class TestBadFiles:
    def test_a_missing_one_says_how_to_record_it(self, path: Path) -> None:
        with pytest.raises(RecordingError) as failed, recording(path):
            pass
        assert (
            f'{path} does not exist. To record it:\n    recording({str(path)!r}, mode="all")'
            in (str(failed.value))
        )

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"format: 7\nexchanges: []\n", "has a format other than 1"),
            (b"format: 1\nexchanges: [\n", "is not readable YAML"),
            (b"# " + SECRET.encode(), "holds the token or the host"),
            (b"\xff", "cannot be read"),
        ],
    )
    def test_others_say_what_is_wrong_and_how_to_record_again(
        self, path: Path, content: bytes, complaint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(RecordingError) as failed, recording(path):
            pass
        text = str(failed.value)
        assert text.startswith(f"{path} {complaint}")
        assert text.endswith(f'To record it:\n    recording({str(path)!r}, mode="all")')
        assert SECRET not in text
        assert in_use == []

    def test_a_folder_is_no_recording(self, tmp_path: Path) -> None:
        with pytest.raises(RecordingError, match="cannot be read"), recording(tmp_path):
            pass

    def test_names_inside_the_working_directory_are_short(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(path.parent.parent)
        with pytest.raises(RecordingError) as failed, recording("recordings/r.yaml"):
            pass
        assert str(failed.value).startswith(f"{Path('recordings', 'r.yaml')} does not exist")

    def test_an_unknown_mode_is_refused(self, path: Path) -> None:
        with (
            pytest.raises(ValueError, match="none, once, all, not 'new'"),
            recording(path, mode="new"),  # type: ignore[arg-type]
        ):
            pass


def many(path: str, *commands: tuple[str, ...]) -> Request:
    return Request(path, commands)


def single(*command: str) -> Request:
    return Request("/", (command,))


ORDER = '{"id": "a1b2c3d4e5", "at": "2026-01-02T03:04:05+01:00", "log": [{"t": 1.5, "s": "new"}]}'


class TestMatching:
    @pytest.mark.parametrize(
        "other",
        [
            many("/pipeline", ("SET", "k", '{"a": 1, "b": [1, 2]}', "EX", "60")),
            single("GET", "k", '{"a": 1, "b": [1, 2]}', "EX", "60"),
            single("SET", "l", '{"a": 1, "b": [1, 2]}', "EX", "60"),
            single("SET", "k", '{"a": 1, "b": [2, 1]}', "EX", "60"),
            single("SET", "k", '{"a": true, "b": [1, 2]}', "EX", "60"),
            single("SET", "k", '{"a": 1.0, "b": [1, 2]}', "EX", "60"),
            single("SET", "k", '{"a": "1", "b": [1, 2]}', "EX", "60"),
            single("SET", "k", '{"a": 1, "b": [1, 2], "c": null}', "EX", "60"),
            single("SET", "k", '{"a": 1, "b": [1, 2, 3]}', "EX", "60"),
            single("SET", "k", '{"a": 1, "b": ', "EX", "60"),
            single("SET", "k", '{"a": 1, "b": [1, 2]}', "EX", "61"),
            single("SET", "k", '{"a": 1, "b": [1, 2]}', "PX", "60"),
            single("SET", "k", '{"a": 1, "b": [1, 2]}'),
            single("set", "k", '{"a": 1, "b": [1, 2]}', "EX", "60"),
        ],
    )
    def test_anything_else_is_another_request(self, other: Request) -> None:
        recorded = said("SET", "k", '{"a": 1, "b": [1, 2]}', "EX", "60")
        assert Replay([recorded], Varying()).answer(other) is None

    def test_the_order_of_fields_is_not_data(self) -> None:
        recorded = said("SET", "k", '{"a": 1, "b": {"c": 2, "d": 3}}')
        replay = Replay([recorded], Varying())
        assert replay.answer(single("SET", "k", '{"b": {"d": 3, "c": 2}, "a": 1}')) is not None

    def test_a_pipeline_is_compared_command_by_command(self) -> None:
        commands = (("GET", "a"), ("GET", "b"))
        exchange = Exchange(many("/pipeline", *commands), 200, b"[]")
        replay = Replay([exchange], Varying())
        assert replay.answer(many("/multi-exec", *commands)) is None
        assert replay.answer(many("/pipeline", *commands[::-1])) is None
        assert replay.answer(many("/pipeline", *commands[:1])) is None
        assert replay.answer(many("/pipeline", *commands)) is exchange

    def test_equal_ones_are_used_in_order_wherever_they_stand(self) -> None:
        first, other, second = said("GET", "k", result="1"), PING, said("GET", "k", result="2")
        replay = Replay([first, other, second], Varying())
        assert replay.answer(single("GET", "k")) is first
        assert replay.answer(single("GET", "k")) is second
        assert replay.answer(single("GET", "k")) is None
        assert list(replay.unused) == [1]

    def test_declared_fields_are_compared_by_shape(self) -> None:
        varying = Varying(["id", "at", "log[].t"])
        sent = ORDER.replace("a1b2c3d4e5", "5555555555").replace("04:05+01:00", "05:06.7+00:00")
        sent = sent.replace("1.5", "99.25")
        recorded = said("SET", "order:1", ORDER)
        assert Replay([recorded], Varying()).answer(single("SET", "order:1", sent)) is None
        assert Replay([recorded], varying).answer(single("SET", "order:1", sent)) is not None
        for wrong in (
            sent.replace("2026-01-02", "n/a "),
            sent.replace("99.25", "99"),
            sent.replace("99.25", "null"),
            sent.replace('"new"', '"old"'),
            sent.replace('"id"', '"ID"'),
        ):
            assert Replay([recorded], varying).answer(single("SET", "order:1", wrong)) is None

    def test_declared_keys_are_compared_by_shape(self) -> None:
        varying = Varying(keys=["order:*", "cart:*:*"])
        recorded = said("MGET", "order:17", "cart:7:b", "other:17")
        for sent, answered in (
            (("order:18", "cart:8:c", "other:17"), True),
            (("order:x", "cart:8:c", "other:17"), False),
            (("order:18", "cart:x:c", "other:17"), False),
            (("order:18", "cart:8:c", "other:18"), False),
            (("prefix:18", "cart:8:c", "other:17"), False),
        ):
            answer = Replay([recorded], varying).answer(single("MGET", *sent))
            assert (answer is not None) is answered
        page = said("SCAN", "0", "MATCH", "order:*", "COUNT", "9")
        other = single("SCAN", "0", "MATCH", "order:[0-9]", "COUNT", "9")
        assert Replay([page], varying).answer(other) is None

    def test_what_varies_comes_back_as_it_was_sent(self) -> None:
        varying = Varying(["at"], ["order:*"])
        now = ORDER.replace("2026", "2027")
        replay = Replay(
            [
                said("SET", "order:a1b2c3d4", ORDER),
                said("KEYS", "*", result=["order:a1b2c3d4", "other"]),
                said("MGET", "order:a1b2c3d4", result=[ORDER, None]),
                said("DEL", "order:a1b2c3d4", result=1),
            ],
            varying,
        )
        assert replay.answer(single("SET", "order:0f0f0f0f", now)) is not None
        keys, values = (
            replay.answer(single(*command))
            for command in (("KEYS", "*"), ("MGET", "order:0f0f0f0f"))
        )
        assert keys is not None
        assert values is not None
        assert keys.answer == {"result": ["order:0f0f0f0f", "other"]}
        assert values.answer == {"result": [now, None]}
        # The recorded order is now the other one, so this is a request for a third.
        assert replay.answer(single("DEL", "order:11112222")) is None
        assert replay.answer(single("DEL", "order:0f0f0f0f")) is not None

    @pytest.mark.parametrize(
        ("option", "recorded", "sent", "answered"),
        [
            ("PXAT", "1764037527123", "1999999999999", True),
            ("PXAT", "1764037527123", "soon", False),
            ("EX", "604800", "604801", False),
            ("EX", "604800", "604800", True),
            # What is sent late expires when it would have expired if sent in time.
            ("PX", "604799919", "604799999", True),
            ("PX", "604799919", "604690000", True),
            ("PX", "604799919", "504799919", False),
            ("PX", "604799919", "1e9", False),
        ],
    )
    def test_moments_and_the_rest_of_an_expiry_differ_in_every_run(
        self, option: str, recorded: str, sent: str, answered: bool
    ) -> None:
        replay = Replay([said("SET", "k", "v", option, recorded)], Varying())
        assert (replay.answer(single("SET", "k", "v", option, sent)) is not None) is answered

    def test_exact_matches_go_first(self) -> None:
        replay = Replay(
            [said("GET", "order:1", result="a"), said("GET", "order:2", result="b")],
            Varying(keys=["order:*"]),
        )
        answer = replay.answer(single("GET", "order:2"))
        assert answer is not None
        assert answer.answer == {"result": "b"}

    @pytest.mark.parametrize(
        ("first", "second", "alike"),
        [
            ("2026-01-02T03:04:05", "1999-12-31T23:59:59.123456+05:30", True),
            ("2026-01-02T03:04:05Z", "2026-01-02", False),
            ("2026-01-02", "2027-02-01", True),
            ("14:30", "09:05:00", True),
            ("14:30", "now", False),
            ("12345678-1234-1234-1234-123456789abc", "FFFFFFFF-0000-4000-8000-000000000000", True),
            ("12345678-1234-1234-1234-123456789abc", "0123456789abcdef", False),
            ("0123456789abcdef", "deadbeef", True),
            ("12345678", "deadbeef", True),
            ("1234567", "deadbeef", False),
            ("-17", "4", True),
            ("2.50", "10.00", True),
            ("2.50", "10", False),
            ("", "", True),
            ("", "text", False),
            ("some text", "Other!", True),
            ("17", 17, False),
            (17, 18, True),
            (17, 17.5, False),
            (1, True, False),
            (None, None, True),
            (None, "", False),
            ([1], ["a", "b"], True),
            ({}, [], False),
        ],
    )
    def test_shapes(self, first: object, second: object, alike: bool) -> None:
        assert same_kind(first, second) is alike
        assert same_kind(second, first) is alike

    def test_the_nearest_exchange_is_the_one_most_alike(self) -> None:
        exchanges = [
            PING,
            said("SET", "order:1", '{"a": 1, "b": 2, "c": 3}'),
            said("SET", "order:2", '{"a": 1, "b": 2, "c": 3}'),
            said("GET", "order:2"),
        ]
        replay = Replay(exchanges, Varying())
        assert replay.nearest(single("SET", "order:2", '{"a": 1, "b": 2, "c": 4}'))[0] == 2
        assert replay.nearest(single("GET", "order:1", "order:2"))[0] == 3
        # A request is compared with the same command, or with none.
        assert replay.nearest(single("DEL", "order:1")) == (None, [])
        assert replay.nearest(many("/pipeline", ("GET", "order:2"))) == (None, [])
        assert Replay([], Varying()).nearest(single("PING")) == (None, [])

    def test_varying_given_as_one_text_is_one_field(self, path: Path) -> None:
        file(path, said("SET", "order:1", '{"at": 1, "a": 1}'))
        with recording(path, varying="at", varying_keys="order:*"):
            UpstashRedis.from_env().execute_command("SET", "order:2", '{"at": 2, "a": 1}')

    def test_a_long_difference_is_cut(self, path: Path) -> None:
        numbers = {"numbers": list(range(500)), "text": "x" * 1000}
        file(path, said("SET", "order:1", json.dumps(numbers), "EX", "604800"))
        order = {"numbers": ["y"] * 500, "text": "x" * 900 + "y" * 100}
        lines = failure(path, lambda replayed: redis_save_order("1", order)).splitlines()
        assert len(lines) < 50
        assert "and 461 more" in lines
        assert all(len(line) < 200 for line in lines)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "error", "text"),
        [
            ("slow", EndpointTimeoutError, "no answer from the endpoint within the time budget"),
            ("wrong token", AuthenticationError, "WRONGPASS"),
            ("quota", QuotaExceededError, "ERR max daily request limit exceeded"),
        ],
    )
    def test_one_ends_a_call(
        self,
        path: Path,
        fault: str,
        error: type[Exception],
        text: str,
        no_waiting: None,
    ) -> None:
        file(path, said("GET", "k"))
        with recording(path) as replayed:
            client = UpstashRedis.from_env()
            replayed.fail_next(2, fault)  # type: ignore[arg-type]
            for _ in range(2):
                with pytest.raises(error, match=text) as failed:
                    client.get("k")
                assert type(failed.value) is error
            assert client.get("k") == "OK"

    def test_an_outage_is_retried_as_in_life_without_waiting(
        self, path: Path, no_waiting: None
    ) -> None:
        file(path, *[said("GET", "k")] * 2)
        with recording(path) as replayed:
            client = UpstashRedis.from_env()
            replayed.fail_next(3, "outage")
            assert client.get("k") == "OK"
            replayed.fail_next(4, "outage")
            with pytest.raises(UnavailableError, match="simulated outage"):
                client.get("k")
            assert client.get("k") == "OK"

    def test_the_circuit_opens_as_in_life_and_closes_without_waiting(
        self, path: Path, no_waiting: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        file(path, *[said("GET", "k")] * 2)
        with recording(path) as replayed:
            client = UpstashRedis.from_env()
            for seconds in (5, 10):
                replayed.fail_next(3 if seconds == 5 else 1, "slow")
                for _ in range(3 if seconds == 5 else 1):
                    with pytest.raises(EndpointTimeoutError):
                        client.get("k")
                for _ in range(2):
                    with pytest.raises(CircuitOpenError):
                        client.get("k")
                    replayed.wait(seconds - 1)
                    with pytest.raises(CircuitOpenError):
                        client.get("k")
                    break
                replayed.wait(2)
            assert client.get("k") == "OK"
            assert client.get("k") == "OK"
        assert "not asked again for 5 s" in caplog.text
        assert "works again" in caplog.text

    def test_what_is_owed_is_sent_as_in_life(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, no_waiting: None
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)
        for mode in ("all", "none"):
            with recording(path, mode=mode) as begun:  # type: ignore[arg-type]
                begun.fail_next(4, "outage")
                assert redis_save_order("1", {"n": 1}) is False
                assert redis_get_order("other") is None
                assert redis_get_order("1") == {"n": 1}
        sets = [
            command
            for exchange in load(path.read_text())
            for command in exchange.request.commands
            if command[0] == "EVAL"
        ]
        assert [command[3] for command in sets] == ["order:1"]

    def test_what_nothing_recorded_answers_is_not_owed(self, path: Path) -> None:
        file(path, said("GET", "order:1", result=None))

        def use(replayed: Recording) -> None:
            assert redis_save_order("2", {}) is False
            assert redis_get_order("1") is None

        complaint = failure(path, use)
        assert "SET order:2" in complaint
        assert "PTTL" not in complaint

    def test_what_is_owed_at_the_end_is_forgotten(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        credentials(monkeypatch, endpoint.url, endpoint.token)
        with recording(path, mode="all") as made:
            made.fail_next(4, "outage")
            assert redis_save_order("1", {"n": 1}) is False
        assert redis_flush() is True
        assert redis_get_order("1") is None
        assert load(path.read_text()) == []

    def test_a_recording_leaves_the_clients_own_circuit_alone(
        self, path: Path, endpoint: LocalEndpoint
    ) -> None:
        client = UpstashRedis(endpoint.url, endpoint.token)
        file(path)
        with recording(path) as replayed:
            replayed.fail_next(3, "slow")
            for _ in range(3):
                with pytest.raises(EndpointTimeoutError):
                    client.get("k")
            with pytest.raises(CircuitOpenError):
                client.get("k")
        assert client.get("k") is None

    def test_while_recording_they_are_neither_sent_nor_recorded(
        self, path: Path, endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, no_waiting: None
    ) -> None:
        with monkeypatch.context() as patch:
            credentials(patch, endpoint.url, endpoint.token)
            with recording(path, mode="all") as made:
                made.fail_next(4, "outage")
                made.fail_next(1, "quota")
                assert redis_save_order("1", {}) is False
                assert redis_save_order("1", {}) is False
                assert redis_save_order("1", {}) is True
        names = [exchange.request.commands[0][0] for exchange in load(path.read_text())]
        assert names[-1] == "SET"
        assert endpoint.usage().requests == len(names)

    def test_one_that_no_request_meets_fails(self, path: Path) -> None:
        file(path, PING)

        def use(replayed: Recording) -> None:
            UpstashRedis.from_env().ping()
            replayed.fail_next(2, "slow")

        complaint = failure(path, use)
        assert complaint.startswith("unused faults: slow, slow (")
        # Recorded again, they would not be met either.
        assert "To record" not in complaint
        with recording(path, allow_unused=True) as replayed:
            replayed.fail_next(2, "slow")

    def test_an_unknown_one_is_refused(self, path: Path) -> None:
        file(path)
        with recording(path) as replayed, pytest.raises(ValueError, match="outage, slow, wrong"):
            replayed.fail_next(1, "timeout")  # type: ignore[arg-type]


class TestOtherMocks:
    @responses.activate
    def test_plain_responses_serve_this_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"https://{HOST}"
        credentials(monkeypatch, url, SECRET)
        responses.post(url, json={"result": "OK"})
        assert redis_save_order("1", {"total": 1}) is True
        assert json.loads(responses.calls[0].request.body) == [
            *("SET", "order:1", '{"total": 1}', "EX", "604800")
        ]

    @responses.activate
    def test_responses_own_explanation_reaches_the_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        credentials(monkeypatch, f"https://{HOST}", SECRET)
        monkeypatch.setattr("upstash_state.transport.exchange.RETRIES", 0)
        responses.get(f"https://{HOST}/other", json={})
        assert redis_get_order("1") is None
        assert "the call doesn't match any registered mock" in caplog.text
        assert f"GET https://{HOST}/other" in caplog.text
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("outer", [True, False])
    def test_other_services_are_mocked_in_the_same_test(self, path: Path, outer: bool) -> None:
        file(path, said("SET", "order:1", '{"paid": true}', "EX", "604800"))

        def app() -> None:
            paid = requests.get("https://pay.example/1", timeout=1).json()["paid"]
            assert redis_save_order("1", {"paid": paid}) is True

        def mocked(what: Callable[[], None]) -> None:
            with responses.RequestsMock() as mock:
                mock.get("https://pay.example/1", json={"paid": True})
                what()

        def recorded(what: Callable[[], None]) -> None:
            with recording(path):
                what()

        if outer:
            mocked(lambda: recorded(app))
        else:
            recorded(lambda: mocked(app))
