"""For each thing that can go wrong, the reason that programs are told."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from http.client import BadStatusLine
from pathlib import Path
from typing import Any, get_args

import pytest
import requests
import urllib3

from tests.locked_down.proxy import Proxy
from tests.support.faults import FAULTS, Certificates, FaultServer
from tests.support.faults.connection import Connection, response
from tests.support.faults.wire import CHUNKED
from upstash_state import UnavailableError, UpstashRedis, time_budget
from upstash_state.errors import Reason
from upstash_state.settings import Secret
from upstash_state.transport.failures import failure_of

FAULT = {fault.name: fault for fault in FAULTS}
BY_FAULT = {
    "refused": "connect",
    "closed_without_an_answer": "closed",
    "reset_after_the_request_is_read": "closed",
    "garbage": "not-http",
    "never_answers": "timeout",
    "html_with_503": "status",
    "html_with_404": "status",
    "html_with_200": "answer",
    "gzip_that_is_none": "answer",
    "huge_content_length": "too-large",
}


@pytest.fixture
def refused(port: int) -> str:
    """An address that nobody listens on."""
    return f"127.0.0.1:{port}"


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(UnavailableError) as caught:
        call()
    assert caught.value.reason in get_args(Reason)
    return caught.value.reason


@pytest.mark.parametrize(("fault", "expected"), BY_FAULT.items())
def test_of_a_fault(fault: str, expected: str) -> None:
    with FaultServer() as server:
        server.plan(FAULT[fault], None)
        redis = UpstashRedis(server.url, server.token, timeout=1 if expected == "timeout" else 20)
        assert reason(redis.ping) == expected


def test_of_an_end_where_another_chunk_should_begin() -> None:
    def act(connection: Connection) -> None:
        connection.run()
        connection.send(response(b"1\r\n \r\n", headers=CHUNKED))
        connection.close()

    with FaultServer() as server:
        server.plan(replace(FAULT["never_answers"], act=act), None)
        redis = UpstashRedis(server.url, server.token, timeout=20)
        assert reason(lambda: redis.execute_command("INCR", "n")) == "closed"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("plain_http_on_the_tls_port", "tls"),
        ("certificate_of_another_host", "certificate"),
        ("certificate_that_has_expired", "certificate"),
    ],
)
def test_of_a_fault_of_tls(
    fault: str, expected: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with FaultServer(certificates) as server:
        server.plan(FAULT[fault], None)
        assert reason(UpstashRedis(server.url, server.token, timeout=20).ping) == expected


def test_of_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert reason(UpstashRedis("https://no.such.test", "token", timeout=20).ping) == "dns"


def test_of_a_proxy(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{refused}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert reason(UpstashRedis("https://no.such.test", "token", timeout=20).ping) == "proxy"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    # No host, no port, no scheme that anybody knows.
    ["foo://h:1", "://x", "http:///", "http:h:1", "http://[::1", "   ", "http://h:99999"],
)
def test_of_a_variable_that_names_no_proxy(
    variable: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(UnavailableError, match="HTTPS_PROXY or ALL_PROXY") as caught:
        UpstashRedis("https://no.such.test", "token", timeout=20).ping()
    assert caught.value.reason == "proxy"
    assert not caught.value.transient
    assert not caught.value.may_have_executed


def through(proxy: str, monkeypatch: pytest.MonkeyPatch) -> UpstashRedis:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return UpstashRedis("https://no.such.test", "s3cret-token", timeout=20)


def test_of_a_proxy_that_does_not_allow_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy({}) as proxy:
        redis = through(f"http://127.0.0.1:{proxy.port}", monkeypatch)
        with pytest.raises(
            UnavailableError, match=r"^the proxy does not allow this host"
        ) as caught:
            redis.ping()
    assert (caught.value.reason, caught.value.transient) == ("proxy", False)


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ("", "HTTPS_PROXY lacks the right user:password@"),
        (
            "shop:s3cret-password@",
            "it did not accept the user and password in HTTPS_PROXY. It offers "
            + ("Basic" if sys.version_info >= (3, 12) else "schemes that are not known here")
            + "; only Basic can be used",
        ),
    ],
)
def test_of_a_proxy_that_does_not_know_the_user(
    credentials: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy({}, credentials="another:password") as proxy:
        redis = through(f"http://{credentials}127.0.0.1:{proxy.port}", monkeypatch)
        with pytest.raises(UnavailableError, match=re.escape(said)) as caught:
            redis.ping()
    assert (caught.value.reason, caught.value.transient) == ("proxy", False)
    assert "s3cret" not in repr(vars(caught.value)) + str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="http.client has no headers of the proxy")
def test_of_a_proxy_that_wants_another_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection(http.client.HTTPConnection):
        def get_proxy_response_headers(self) -> Message:
            headers = Message()
            for scheme in ("Negotiate", 'NTLM realm="office"', "Digest\x1b\u202e"):
                headers["Proxy-Authenticate"] = scheme
            return headers

        def connect(self) -> None:
            raise OSError("Tunnel connection failed: 407 Proxy Authentication Required")

    monkeypatch.setenv("HTTPS_PROXY", "http://shop:s3cret-password@127.0.0.1:1")
    with pytest.raises(OSError, match="Tunnel") as caught:
        Connection("127.0.0.1").connect()
    error = requests.exceptions.ProxyError(caught.value)
    failure = failure_of(error, True, b'["PING"]', Secret("s3cret-token"))
    offers = r"It offers Negotiate, NTLM, Digest\x1b\u202e; only Basic can be used"
    assert str(failure).endswith(offers)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("s3cret-token")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ssl.SSLCertVerificationError(1, "no such\nissuer"),
            r"certificate was refused: no such\nissuer",
        ),
        (OSError(5, "odd\nERROR all lost", "a\u202eb"), r"odd\nERROR all lost: a\u202eb"),
        (OSError(5, 7), "failed: 7"),
        (OSError(), "failed: OSError"),
        (socket.gaierror(-2, "n" * 1_000_000), "n" * 500 + "…"),
        (requests.exceptions.RequestException(Mute()), "failed: Mute"),
    ],
)
def test_of_an_error_that_was_made_by_hand(error: Exception, said: str) -> None:
    failure = failure_of(error, True, b'["PING"]', Secret("s3cret-token"))
    assert str(failure).endswith(said)
    assert str(failure).isprintable()


@pytest.mark.parametrize("password", ["s3cret-\u20ac", "s3cret-%E2%82%AC"])
def test_of_a_proxy_password_that_requests_cannot_encode(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = through(f"http://shop:{password}@127.0.0.1:1", monkeypatch)
    with pytest.raises(UnavailableError, match="outside of Latin-1") as caught:
        redis.ping()
    assert (caught.value.reason, caught.value.may_have_executed) == ("proxy", False)
    assert "s3cret" not in everything_of(caught.value)


ORDER = '{"name": "Zoë Müller"}'


class Unspeakable(Exception):
    """An exception of others, with secrets in its text, its attributes and where it came from."""

    def __init__(self, held: str) -> None:
        super().__init__(f"cannot send {held}\nfor Zoë Müller")
        self.held = held
        self.__cause__ = UnicodeEncodeError("latin-1", held + "\u20ac", 0, 1, "no")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unspeakable("Bearer s3cret-token"), "Unspeakable: cannot send Bearer *** for…"),
        (Mute(), "Mute"),
        (type("Odd\nERROR all lost", (Exception,), {})("x"), r"Odd\nERROR all lost: x"),
    ],
)
def test_of_a_fault_that_is_not_of_the_network_nothing_is_kept_but_its_place(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: requests.Session, request: requests.PreparedRequest, **_: Any) -> Any:
        held = request.headers["Authorization"]
        assert held
        raise error

    monkeypatch.setattr(requests.Session, "send", broken)
    redis = UpstashRedis("https://no.such.test", "s3cret-token", timeout=20)
    with pytest.raises(UnavailableError) as caught:
        redis.set("k", ORDER)
    assert (str(caught.value), caught.value.reason) == (said, "local")
    cause = caught.value.__cause__
    assert cause is not None
    assert "broken" in "".join(traceback.format_tb(cause.__traceback__))
    assert "s3cret" not in everything_of(caught.value)
    assert "Müller" not in "".join(traceback.format_exception(caught.value))


def everything_of(error: BaseException) -> str:
    """Show an exception, those that it came from, their attributes and the package's frames."""
    texts = []
    link: BaseException | None = error
    while link is not None:
        frames = [frame for frame, _ in traceback.walk_tb(link.__traceback__)]
        texts += [repr(link), repr(vars(link)), repr(link.args)]
        texts += [repr(frame.f_locals) for frame in frames if frame.f_code.co_filename != __file__]
        link = link.__cause__ or link.__context__
    return "".join(texts)


def test_of_what_is_not_sent(refused: str) -> None:
    redis = UpstashRedis(f"http://{refused}", "token", timeout=20)
    with time_budget(0):
        assert reason(redis.ping) == "budget"
    for _ in range(3):
        assert reason(redis.ping) == "connect"
    assert reason(redis.ping) == "circuit"


def test_of_what_is_not_of_the_network(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle")
    assert reason(UpstashRedis(f"https://{refused}", "token").ping) == "local"


def test_of_a_bundle_without_certificates(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.raises(UnavailableError, match=r"CA bundle .*bundle\.pem") as caught:
        UpstashRedis(f"https://{refused}", "token", timeout=20).ping()
    assert caught.value.reason == "local"
    assert not caught.value.transient
    assert not caught.value.may_have_executed


def test_of_an_error_whose_context_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    # As urllib3 1.26 raises what http.client raised.
    def send(*args: Any, **kwargs: Any) -> Any:
        cause = BadStatusLine("SSH-2.0")
        cause.__context__ = TypeError("unexpected keyword argument 'buffering'")
        cause.__suppress_context__ = True
        raise requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", cause))

    monkeypatch.setattr(requests.Session, "send", send)
    assert reason(UpstashRedis("https://no.such.test", "token", timeout=20).ping) == "not-http"


# In Pyodide, urllib3 raises these for what `fetch` reports, and there may be no module ssl.


def of_fetch(error: Exception) -> UnavailableError:
    return failure_of(error, True, b"[]", Secret("token"))


@pytest.fixture
def without_ssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssl", None)  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_ssl")
@pytest.mark.parametrize("wrap", [requests.ConnectionError, lambda error: error])
def test_of_a_fetch_that_is_aborted_in_time(wrap: Callable[[Exception], Exception]) -> None:
    failure = of_fetch(wrap(urllib3.exceptions.TimeoutError("Request timed out")))
    assert (failure.reason, failure.transient) == ("timeout", True)


@pytest.mark.usefixtures("without_ssl")
@pytest.mark.parametrize("wrap", [requests.ConnectionError, lambda error: error])
def test_of_a_fetch_that_fails(wrap: Callable[[Exception], Exception]) -> None:
    failure = of_fetch(wrap(http.client.HTTPException("fetch failed")))
    assert (failure.reason, failure.transient) == ("closed", True)
    assert str(failure) == "the connection to the endpoint failed: fetch failed"


def test_of_a_connection_that_is_refused_which_is_a_timeout_to_urllib3(refused: str) -> None:
    assert issubclass(urllib3.exceptions.NewConnectionError, urllib3.exceptions.TimeoutError)
    assert reason(UpstashRedis(f"http://{refused}", "token", timeout=20).ping) == "connect"
