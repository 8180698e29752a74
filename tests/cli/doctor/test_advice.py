"""What the doctor says of an endpoint that cannot be reached."""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any

import pytest

from tests.support.cli import (
    SECONDS,
    TOKEN,
    Gate,
    Tool,
)
from tests.support.faults import Certificates
from upstash_state.local import LocalEndpoint

from .conftest import ELSEWHERE, PASSWORD, URL, URL_TOKEN, Doctor


def test_a_host_without_an_address(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **options: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(URL, ELSEWHERE)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        doctor.finds("endpoint", "Name or service not known", "host for typing errors")


def test_a_name_server_that_does_not_answer(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = threading.Event()

    def silent(host: str, *args: Any, flags: int = 0, **options: Any) -> Any:
        if not flags:
            looked_up.wait(SECONDS)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.1")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", silent)
        try:
            doctor.finds("endpoint", "within the time budget", "UPSTASH_STATE_TIMEOUT")
        finally:
            looked_up.set()


def test_a_port_on_which_nobody_listens(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setenv(URL, f"http://127.0.0.1:{port}")
    doctor.finds("endpoint", "Connection refused", "host and port .if it is `upstash-state serve`")


def test_a_host_that_drops_connections(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*args: object) -> None:
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", swallow)
        doctor.finds("endpoint", "no answer from the endpoint within", "a firewall may drop it")


@pytest.mark.parametrize(
    ("kind", "found", "advice"),
    [
        ("expired", "certificate has expired", "this machine's clock"),
        ("wrong_host", "IP address mismatch", "check the URL's host"),
        ("unknown_authority", "unable to get local issuer", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_certificates_that_cannot_be_verified(
    few: LocalEndpoint,
    doctor: Doctor,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    found: str,
    advice: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with LocalEndpoint(token=TOKEN, tls=getattr(certificates, kind)) as endpoint:
        monkeypatch.setenv(URL, endpoint.url)
        doctor.finds("endpoint", found, advice)


def test_a_good_certificate(
    few: LocalEndpoint,
    capsys: pytest.CaptureFixture[str],
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle))
    with LocalEndpoint(token=TOKEN, tls=certificates.right) as endpoint:
        monkeypatch.setenv(URL, endpoint.url)
        status, out, _ = Tool(capsys)("doctor")
    assert status == 0
    assert "ok       endpoint    answers\n" in out


def test_https_to_a_port_that_speaks_http(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, few.url.replace("http:", "https:"))
    doctor.finds("endpoint", "TLS: ", "check the URL, with https:// and the port")


def test_http_to_a_port_that_speaks_https(
    few: LocalEndpoint,
    doctor: Doctor,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with LocalEndpoint(token=TOKEN, tls=certificates.right) as endpoint:
        monkeypatch.setenv(URL, endpoint.url.replace("https:", "http:"))
        doctor.finds("endpoint", "connection to the endpoint failed", "with https:// and the port")


def test_a_server_that_never_shakes_hands(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(URL, f"https://127.0.0.1:{silent.getsockname()[1]}")
        doctor.finds("endpoint", "no answer from the endpoint within", "a firewall may drop it")


def test_the_path_of_the_url_is_not_shown(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{gate.url}/{PASSWORD}")
    gate.answer = lambda body: (503, "")
    doctor.finds("endpoint", "HTTP status 503", "try again later")


def test_an_endpoint_that_does_not_answer_in_time(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.holds = lambda body: True
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    doctor.finds("endpoint", "no answer from the endpoint within", "UPSTASH_STATE_TIMEOUT")


def test_a_proxy_is_examined_in_place_of_the_endpoint(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PASSWORD}@127.0.0.1:{port}")
    doctor.finds("proxy", "connection to the proxy failed: Connection refused", "HTTPS_PROXY")


def test_a_proxy_that_does_not_speak_tls(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", few.url.replace("http:", "https:"))
    doctor.finds("proxy", "connection to the proxy failed: TLS", "check HTTPS_PROXY")


def test_a_proxy_that_refuses(
    few: LocalEndpoint, gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", gate.url.replace("http://", f"http://me:{PASSWORD}@"))
    doctor.finds("proxy", "the proxy answered with HTTP status 501", "HTTPS_PROXY, HTTP_PROXY")


def test_an_invalid_proxy_address(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:port")
    doctor.finds("proxy", "not the URL of an HTTP or SOCKS", "check HTTPS_PROXY")


def test_a_proxy_for_socks_needs_pysocks(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setenv(URL, ELSEWHERE)
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://127.0.0.1:{port}")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "socks", None)
        doctor.finds("proxy", r"needs PySocks: `pip install .requests\[socks\]", "check")


def test_a_wrong_token_or_the_password_for_tcp(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_TOKEN, PASSWORD)
    doctor.finds("token", "WRONGPASS", "not its password for TCP: copy it from")


def test_the_read_only_token(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_TOKEN, few.read_only_token)
    doctor.finds("writing", "NOPERM", "this is the read-only token: copy it from")


def test_a_path_that_is_wrong_is_not_a_wrong_token(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{few.url}/{PASSWORD}")
    doctor.finds("URL", "the path after the host is wrong; the endpoint works without it", "remove")


def test_a_wrong_token_is_told_from_a_wrong_path(
    few: LocalEndpoint, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL, f"{few.url}/{PASSWORD}")
    monkeypatch.setenv(URL_TOKEN, PASSWORD)
    doctor.finds("token", "WRONGPASS", "copy it from")


def test_an_endpoint_that_slows_down_until_the_time_is_over(
    gate: Gate, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTASH_STATE_TIMEOUT", "0.2")
    gate.answer = lambda body: (429, "")
    doctor.finds("endpoint", "HTTP status 429", "too many requests in a short time")
