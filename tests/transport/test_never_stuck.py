"""What tries to hold a call beyond its time, or to leave something wrong behind."""

from __future__ import annotations

import errno
import gzip
import logging
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
import requests
import responses

from tests.support.environ import Environ
from tests.support.faults import Certificates, Fault, FaultServer
from tests.support.faults import wire as faults
from tests.support.faults.connection import Connection, response
from tests.support.sending import run
from upstash_state import (
    AnswerError,
    EndpointTimeoutError,
    SettingsError,
    UnavailableError,
    UpstashRedis,
    commands,
    redis_get_all_orders,
    redis_get_order,
    redis_save_order,
    reset_client,
)
from upstash_state import errors as all_errors
from upstash_state import time_budget as budget_of
from upstash_state.settings import check_token
from upstash_state.transport import Transport, deadline, deadline_within

URL, TOKEN = "https://test.upstash.io", "s3cret-token"


def acting(act: Callable[[Connection], None]) -> Fault:
    return replace(faults.never_answers, act=act)


def within(seconds: float, call: Callable[[], object]) -> BaseException | None:
    """What a call raised, in a thread that must have ended by then."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert raised, f"not done in {seconds} s"
    return raised[0]


class TestCircuit:
    def test_a_budget_that_is_too_short_does_not_open_the_circuit(
        self, server: FaultServer
    ) -> None:
        redis = UpstashRedis(server.url, server.token)
        redis.ping()
        server.plan(acting(lambda connection: _late(connection, 5)), 3)
        for _ in range(3):
            with budget_of(0.03), pytest.raises(EndpointTimeoutError):
                redis.ping()
        server.clear()
        assert redis.ping()

    def test_a_fault_of_the_surroundings_does_not_open_the_circuit(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redis = UpstashRedis(server.url, server.token)
        with monkeypatch.context() as patched:
            patched.setattr(
                requests.Session, "send", _raise(TypeError("wrong number of arguments"))
            )
            for _ in range(5):
                with pytest.raises(UnavailableError, match=r"TypeError: wrong number of arguments"):
                    redis.ping()
        assert redis.ping()

    def test_429_is_waited_out_within_the_budget_and_does_not_open_the_circuit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("random.uniform", lambda least, most: most)
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        transport = Transport(URL, check_token(TOKEN), timeout=10)
        with responses.RequestsMock() as mock:
            for _ in range(8):
                mock.post(URL, status=429)
            mock.post(URL, json={"result": 1})
            assert run(transport, commands.execute_command("INCR", "n")) == 1
            assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
            for _ in range(5):
                mock.post(URL, status=429, headers={"Retry-After": "60"})
                with pytest.raises(all_errors.SlowDownError):
                    run(transport, commands.get("k"))
            mock.post(URL, json={"result": "v"})
            assert run(transport, commands.get("k")) == "v"


def _late(connection: Connection, seconds: float) -> None:
    connection.read()
    connection.server.closing.wait(seconds)
    connection.reply()


def _raise(error: BaseException) -> Callable[..., Any]:
    def function(*args: object, **kwargs: object) -> Any:
        raise error

    return function


class Raising(logging.Handler):
    """A handler that raises for each record, and so does not let it be written anywhere."""

    emit = _raise(OSError("disk full"))


class TestFrozenTime:
    """A clock that stands still (freezegun) does not make a call last."""

    @pytest.mark.parametrize("kept", [False, True])
    def test_a_hanging_endpoint_is_asked_once(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch, kept: bool
    ) -> None:
        redis = UpstashRedis(server.url, server.token, timeout=0.3)
        if kept:
            redis.ping()
        server.plan(faults.never_answers, None)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with pytest.raises(EndpointTimeoutError):
            redis.ping()
        assert server.struck == {"never_answers": 1}

    def test_an_endpoint_that_does_not_finish_the_handshake_is_asked_twice_at_most(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
        with FaultServer(certificates) as server:
            server.plan(faults.handshake_that_never_ends, None)
            redis = UpstashRedis(server.url, server.token, timeout=0.3)
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now)
            with pytest.raises(EndpointTimeoutError):
                redis.ping()
            assert server.struck["handshake_that_never_ends"] <= 2

    def test_an_endpoint_that_says_to_slow_down_is_not_asked_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        transport = Transport(URL, check_token(TOKEN), timeout=5)
        monkeypatch.setattr(time, "monotonic", lambda: 0.0)
        with responses.RequestsMock() as mock:
            mock.post(URL, status=429, headers={"Retry-After": "1"})
            with pytest.raises(all_errors.SlowDownError):
                run(transport, commands.get("k"))
        assert waits == [1, 1, 1, 1]


class TestLocalFaults:
    def test_a_local_fault_has_its_own_text_and_traceback_without_the_token(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redis = UpstashRedis(server.url, server.token)

        def broken(session: requests.Session, request: requests.PreparedRequest, **_: Any) -> Any:
            held = request.headers["Authorization"]
            raise TypeError(f"cannot send {held}\nat all //user:password@proxy")

        monkeypatch.setattr(requests.Session, "send", broken)
        with pytest.raises(UnavailableError) as caught:
            redis.ping()
        assert caught.value.reason == "local"
        text = "TypeError: cannot send Bearer *** at all //***@proxy"
        assert str(caught.value) == text
        cause = caught.value.__cause__
        assert cause is not None
        assert "broken" in "".join(traceback.format_tb(cause.__traceback__))
        frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
        assert not any(server.token in repr(frame.f_locals) for frame in frames)

    @pytest.mark.parametrize(
        "call",
        [lambda: redis_save_order("1", {}), lambda: redis_get_order("1")],
        ids=["save", "get"],
    )
    def test_the_log_shows_where_a_local_fault_was_raised(
        self,
        environ: Environ,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        call: Callable[[], object],
    ) -> None:
        def broken(session: requests.Session, request: requests.PreparedRequest, **_: Any) -> Any:
            raise TypeError("wrong number of arguments")

        monkeypatch.setattr(requests.Session, "send", broken)
        environ.use(URL, TOKEN)
        reset_client(flush=False)
        assert not call()
        assert "in broken" in caplog.text
        reset_client(flush=False)

    def test_the_error_shows_the_text_of_a_mock(self) -> None:
        with responses.RequestsMock(), pytest.raises(UnavailableError) as caught:
            UpstashRedis(URL, TOKEN).ping()
        assert "doesn't match any registered mock" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_an_interruption_takes_the_token_out_of_the_frames(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redis = UpstashRedis(server.url, server.token)
        monkeypatch.setattr(deadline.Limited, "_send", _raise(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt) as caught:
            redis.ping()
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        assert any(frame.f_code.co_name == "getresponse" for frame in frames)
        inner = [frame for frame in frames if "upstash_state/tests" not in frame.f_code.co_filename]
        assert not any(server.token in repr(frame.f_locals) for frame in inner)


class TestHandlers:
    def test_a_log_handler_of_urllib3_that_saves_ends_and_the_call_succeeds(
        self, server: FaultServer
    ) -> None:
        redis = UpstashRedis(server.url, server.token)
        inner: list[object] = []

        class Saving(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                try:
                    inner.append(redis.set("log", record.getMessage()))
                except UnavailableError as error:
                    inner.append(error)

        logger = logging.getLogger("urllib3")
        handler = Saving(logging.DEBUG)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            assert within(10, lambda: redis.set("k", "v")) is None
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        assert True in inner
        assert any("a handler calls" in str(error) for error in inner)
        assert len(server.requests) < 20

    @pytest.mark.parametrize(
        "call",
        [
            lambda: redis_save_order("log", {"text": "told"}),
            lambda: redis_save_order("log", {"text": object()}),
            lambda: redis_get_order("log"),
            redis_get_all_orders,
        ],
        ids=["save", "a save that cannot be", "get", "restore"],
    )
    def test_a_log_handler_whose_calls_fail_does_not_recurse_for_ever(
        self,
        environ: Environ,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        call: Callable[[], object],
        port: int,
    ) -> None:
        environ.use(f"http://127.0.0.1:{port}", TOKEN)
        reset_client(flush=False)
        told: list[str] = []

        class Calling(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                told.append(record.getMessage())
                call()

        caplog.set_level(logging.DEBUG, "upstash_state")
        monkeypatch.setattr(logging.getLogger("upstash_state"), "handlers", [Calling()])
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        for _ in range(2):
            assert redis_save_order("1", {}) is False
        assert "Failed to save order 1 to Redis" in told[0]
        assert 2 <= len(told) < 20
        reset_client(flush=False)

    def test_a_log_handler_that_raises_breaks_no_call(
        self, environ: Environ, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environ.use("https://db.example.test", "")
        reset_client(flush=False)
        monkeypatch.setattr(logging.getLogger("upstash_state"), "handlers", [Raising()])
        assert redis_save_order("1", {}) is False
        assert redis_save_order("1", {"a": object()}) is False
        reset_client(flush=False)

    def test_a_log_handler_that_raises_costs_no_call_its_success(
        self, environ: Environ, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logger = logging.getLogger("upstash_state")
        monkeypatch.setattr(logger, "handlers", [Raising()])
        monkeypatch.setattr(logger, "level", logging.INFO)
        environ.use(server.url, server.token)
        # Its warning comes with the first call.
        environ.set(UPSTASH_STATE_SKIP_UNCHANGED="often")
        reset_client(flush=False)
        # With the first answer comes a line, too.
        assert redis_save_order("1", {}) is True
        assert redis_get_order("1") == {}
        assert len(server.requests) == 2
        reset_client(flush=False)

    def test_a_log_handler_that_raises_leaves_the_circuit_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logger = logging.getLogger("upstash_state")
        monkeypatch.setattr(logger, "handlers", [Raising()])
        monkeypatch.setattr(logger, "level", logging.INFO)
        now = [0.0]
        transport = Transport(URL, check_token(TOKEN), timeout=5, clock=lambda: now[0])
        with responses.RequestsMock() as mock:
            mock.post(URL, body="<html>")
            for _ in range(3):
                with pytest.raises(AnswerError):
                    run(transport, commands.get("k"))
            with pytest.raises(all_errors.CircuitOpenError):
                run(transport, commands.get("k"))
            now[0] = 5
            mock.replace(responses.POST, URL, json={"result": "v"})
            assert run(transport, commands.get("k")) == "v"

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a POSIX timer")
    def test_a_signal_handler_that_saves_leaves_the_call_its_time_limit(
        self, server: FaultServer
    ) -> None:
        redis = UpstashRedis(server.url, server.token, timeout=1.0)
        other = UpstashRedis(server.url, server.token, timeout=20.0)
        other.ping()
        redis.ping()
        saved: list[object] = []

        def save(number: int, frame: FrameType | None) -> None:
            saved.append(other.set("signal", "v"))

        server.plan(faults.body_trickled)
        before = signal.signal(signal.SIGALRM, save)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begin = time.monotonic()
        try:
            with pytest.raises(EndpointTimeoutError):
                redis.execute_command("INCR", "n")
        finally:
            signal.signal(signal.SIGALRM, before)
        assert saved == [True]
        # The whole trickle takes a minute.
        assert time.monotonic() - begin < 10


class TestAnswers:
    def test_gzip_around_gzip_is_not_unpacked(self, server: FaultServer) -> None:
        body = b"0" * 10_000_000
        for _ in range(4):
            body = gzip.compress(body)
        headers = {"Content-Encoding": ", ".join(["gzip"] * 4)}

        def act(connection: Connection) -> None:
            connection.read()
            connection.reply(body, headers=headers)

        server.plan(acting(act))
        redis = UpstashRedis(server.url, server.token, timeout=5)
        error = within(10, redis.ping)
        assert isinstance(error, AnswerError)
        assert "compressed in a way that was not asked for" in str(error)
        assert redis.ping()

    def test_a_text_of_brackets_is_not_read(self) -> None:
        body = b'{"result":[' + b"[]," * 6_000_000 + b"[]]}"
        with responses.RequestsMock() as mock:
            mock.post(URL, body=body)
            with pytest.raises(AnswerError, match="an answer of more than 16777216 bytes"):
                UpstashRedis(URL, TOKEN).get("k")

    @pytest.mark.parametrize(
        ("status", "text"),
        [(400, "http: request body too large"), (413, "anything"), (200, "request body too large")],
    )
    def test_a_body_that_is_too_large_for_a_server_has_its_own_error(
        self, status: int, text: str
    ) -> None:
        with responses.RequestsMock() as mock:
            mock.post(URL, status=status, json={"error": text})
            with pytest.raises(all_errors.RequestTooLargeError):
                UpstashRedis(URL, TOKEN).get("k")

    @pytest.mark.parametrize("header", ["Content-Length: \u00b2", "Content-Encoding: "])
    def test_an_invalid_header_is_ignored(self, server: FaultServer, header: str) -> None:
        def act(connection: Connection) -> None:
            connection.read()
            head = f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode("latin-1")
            connection.send(head + b'{"result":"v"}')
            connection.close()

        server.plan(acting(act))
        assert UpstashRedis(server.url, server.token, timeout=20).get("k") == "v"

    @pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError])
    def test_an_answer_before_the_whole_request_was_sent_counts(
        self, server: FaultServer, error: type[OSError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def act(connection: Connection) -> None:
            connection.send(response(b"too large", status=413))
            connection.hang()

        send, order = socket.socket.send, "v" * 1_000_000

        def cut(sock: socket.socket, data: Any, *args: Any) -> int:
            if len(data) < len(order):
                raise error(errno.EPIPE, "Broken pipe")
            return send(sock, data[:1000], *args)

        monkeypatch.setattr(socket.socket, "send", cut)
        server.plan(acting(act))
        with pytest.raises(all_errors.RequestTooLargeError):
            UpstashRedis(server.url, server.token, timeout=20).set("k", order)

    def test_an_order_repeated_in_an_error_does_not_change_its_class(self) -> None:
        text = "ERR unknown command 'SET', with args beginning with: 'request body too large'"
        with responses.RequestsMock() as mock:
            mock.post(URL, status=400, json={"error": text})
            with pytest.raises(all_errors.ResponseError) as caught:
                UpstashRedis(URL, TOKEN).get("k")
        assert type(caught.value) is all_errors.ResponseError


class TestNames:
    def test_an_address_of_an_unsupported_family_is_skipped(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = int(server.url.rpartition(":")[2])
        addresses = [
            (socket.AF_PACKET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: addresses)
        assert UpstashRedis(server.url, server.token).ping()

    def test_an_error_in_a_lookup_ends_only_that_lookup(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        redis = UpstashRedis(server.url, server.token)
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", _raise(MemoryError()))
            with pytest.raises(UnavailableError, match="MemoryError"):
                redis.ping()
        assert redis.ping()


class TestProxies:
    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nX-Long: "])
    def test_a_proxy_that_stalls_or_drips_does_not_hold_the_call(
        self, answer: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = threading.Event()

        def serve(listener: socket.socket) -> None:
            while not over.is_set():
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    try:
                        sock.recv(10_000)
                        sock.sendall(answer)
                        while answer and not over.wait(0.1):
                            sock.sendall(b"x")
                        over.wait(30)
                    except OSError:
                        pass

        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            thread = threading.Thread(target=serve, args=[listener], daemon=True)
            thread.start()
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            redis = UpstashRedis(URL, TOKEN, timeout=0.5)
            assert isinstance(within(10, redis.ping), EndpointTimeoutError)
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)

    def test_a_slow_lookup_of_the_systems_proxies_does_not_hold_the_call(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = threading.Event()
        monkeypatch.setattr(
            "upstash_state.transport.http.proxy_of", lambda url: over.wait(30) and None
        )
        redis = UpstashRedis(URL, TOKEN, timeout=0.3)
        assert isinstance(within(10, redis.ping), EndpointTimeoutError)
        over.set()

    def test_a_socks_proxy_without_pysocks_is_explained(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            requests.adapters,
            "SOCKSProxyManager",
            _raise(requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")),
        )
        monkeypatch.setenv("HTTPS_PROXY", "socks5h://127.0.0.1:1080")
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(UnavailableError, match=r"HTTPS_PROXY .*PySocks") as caught:
            UpstashRedis(URL, TOKEN).ping()
        assert caught.value.reason == "proxy"


def time_left() -> float:
    return deadline_within(60) - time.monotonic()


class TestBudgets:
    def test_a_block_that_ends_in_another_context_ends_nothing_there(self) -> None:
        import contextvars

        budget = budget_of(10)
        contextvars.copy_context().run(budget.__enter__)
        with budget_of(20):
            contextvars.copy_context().run(budget.__exit__, None, None, None)
            budget.__exit__(None, None, None)
            assert 10 < time_left() <= 20

    def test_a_budget_in_a_generator_ends_alone(self) -> None:
        def orders() -> Iterator[int]:
            with budget_of(10):
                yield 1
                yield 2

        generator = orders()
        next(generator)
        with budget_of(20):
            generator.close()
            assert 10 < time_left() <= 20
        assert time_left() > 20

    def test_a_budget_whose_block_was_not_left_ends_with_its_object(self) -> None:
        budget_of(0).__enter__()
        assert time_left() > 20

    def test_as_a_decorator_each_call_has_its_own_budget(self) -> None:
        @budget_of(20)
        def left(then: Callable[[], float] | None = None) -> float:
            return then() if then else time_left()

        assert 10 < left() <= 20
        assert 10 < left(lambda: left()) <= 20
        assert time_left() > 20

    @pytest.mark.parametrize("seconds", [float("nan"), "5", None])
    def test_a_budget_takes_a_number(self, seconds: Any) -> None:
        with pytest.raises(SettingsError, match=r"time_budget takes a number of seconds, such as"):
            budget_of(seconds)

    @pytest.mark.parametrize("seconds", [float("nan"), float("inf"), "5", None, 0, -1])
    def test_a_timeout_takes_a_number_above_0(self, seconds: Any) -> None:
        with pytest.raises(SettingsError, match=r"timeout is not a number of seconds above 0"):
            UpstashRedis(URL, TOKEN, timeout=seconds)

    def test_a_used_up_budget_is_reported_once(self) -> None:
        redis = UpstashRedis(URL, TOKEN)
        for _ in range(2):
            reported = []
            with budget_of(0), budget_of(5):
                for _ in range(3):
                    with pytest.raises(all_errors.BudgetError) as caught:
                        redis.ping()
                    assert caught.value.reason == "budget"
                    assert (
                        pickle.loads(pickle.dumps(caught.value)).reported == caught.value.reported
                    )
                    reported.append(caught.value.reported)
            assert reported == [False, True, True]


def test_the_first_answer_is_logged(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "upstash_state")
    redis = UpstashRedis(server.url, server.token)
    for _ in range(2):
        redis.ping()
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("Redis connection established") == 1


def test_the_time_for_which_the_circuit_was_open_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    transport = Transport(URL, check_token(TOKEN), timeout=5, clock=lambda: now[0])
    with responses.RequestsMock() as mock:
        mock.post(URL, body="<html>")
        for _ in range(3):
            with pytest.raises(UnavailableError):
                run(transport, commands.get("k"))
        now[0] = 7
        mock.replace(responses.POST, URL, json={"result": "v"})
        run(transport, commands.get("k"))
    assert "works again after 7 s" in caplog.text


def test_no_thread_is_left_behind(server: FaultServer) -> None:
    UpstashRedis(server.url, server.token).ping()
    assert not [thread for thread in threading.enumerate() if "connecting" in thread.name]
