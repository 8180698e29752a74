"""For each thing that can go wrong, the reason that programs are told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.support.faults import FAULTS, Certificates, FaultServer
from tests.support.faults.connection import Connection, response
from tests.support.faults.wire import CHUNKED
from upstash_state import UnavailableError, UpstashRedis, time_budget
from upstash_state.errors import Reason

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


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def refused() -> Iterator[str]:
    """An address that nobody listens on."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
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
