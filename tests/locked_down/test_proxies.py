"""Where only a proxy can be reached: through it, past it, and through one that opens TLS."""

from __future__ import annotations

import base64
import http.client
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from upstash_state import UnavailableError, UpstashRedis
from upstash_state.local import LocalEndpoint

from .authority import NAME, URL, Authority
from .proxy import Interception, Proxy

USER, PASSWORD = "shop", "proxy-password-5866"
CREDENTIALS = f"{USER}:{PASSWORD}"
SECRETS = (PASSWORD, base64.b64encode(CREDENTIALS.encode()).decode())


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    # With this, http.client prints the headers of what is sent.
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))


def proxy_to(endpoint: LocalEndpoint, **options: Any) -> Proxy:
    return Proxy({f"{NAME}:443": int(endpoint.url.rpartition(":")[2])}, **options)


def client_of(endpoint: LocalEndpoint) -> UpstashRedis:
    return UpstashRedis(URL, endpoint.token, timeout=5)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_endpoint_is_reached_through_a_proxy(
    https_endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    with proxy_to(https_endpoint) as proxy:
        monkeypatch.setenv(variable, f"{scheme}127.0.0.1:{proxy.port}")
        redis = client_of(https_endpoint)
        assert redis.set("order:1", "{}")
        assert redis.get("order:1") == "{}"
    assert proxy.asked == [f"{NAME}:443"], "one tunnel, which is kept"


@pytest.mark.usefixtures("trusted")
def test_a_proxy_may_be_reached_over_tls(
    https_endpoint: LocalEndpoint, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_to(https_endpoint, tls=authority.as_server) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        redis = client_of(https_endpoint)
        assert redis.set("order:1", "{}")
        assert redis.get("order:1") == "{}"
    assert proxy.asked == [f"{NAME}:443"], "one tunnel, which is kept"


@pytest.mark.usefixtures("trusted")
def test_a_proxy_over_tls_is_refused_without_its_authority(
    https_endpoint: LocalEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Authority(tmp_path / "office.pem")
    with proxy_to(https_endpoint, tls=office.as_server) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        with pytest.raises(UnavailableError, match="certificate was refused"):
            client_of(https_endpoint).ping()
    assert proxy.asked == []


@pytest.mark.usefixtures("trusted")
def test_the_credentials_of_a_proxy_reach_it_and_nobody_else(
    https_endpoint: LocalEndpoint,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    opened = Interception(authority.as_server, authority.as_client)
    with proxy_to(https_endpoint, credentials=CREDENTIALS, interception=opened) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{CREDENTIALS}@127.0.0.1:{proxy.port}")
        assert client_of(https_endpoint).ping()
    assert b"PING" in proxy.seen
    assert_untold(proxy.seen.decode("latin-1"), *SECRETS)
    assert_untold(caplog.text + "".join(capfd.readouterr()), *SECRETS, https_endpoint.token)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("credentials", ["", f"{USER}:wrong-{PASSWORD}@"])
def test_a_proxy_that_refuses_the_credentials_is_reported_without_them(
    https_endpoint: LocalEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    credentials: str,
) -> None:
    with proxy_to(https_endpoint, credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{credentials}127.0.0.1:{proxy.port}")
        with pytest.raises(
            UnavailableError, match="the proxy answered with HTTP status 407: "
        ) as raised:
            client_of(https_endpoint).ping()
    assert proxy.asked == [f"{NAME}:443"], "a refusal is not passing trouble"
    assert https_endpoint.usage().requests == 0
    told = caplog.text + "".join(capfd.readouterr()) + repr(raised.value)
    assert_untold(told, *SECRETS, https_endpoint.token)


@pytest.mark.usefixtures("trusted")
def test_a_transient_status_of_a_proxy_is_retried(
    https_endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy_to(https_endpoint) as proxy:
        proxy.trouble = 2
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert client_of(https_endpoint).execute_command("INCR", "visits") == 1
    assert proxy.asked == [f"{NAME}:443"] * 3


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("names", [NAME, ".example.test", "example.test", f"other.test, {NAME}"])
def test_no_proxy_is_respected(
    https_endpoint: LocalEndpoint, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    port = int(https_endpoint.url.rpartition(":")[2])
    names_known_to(monkeypatch, {NAME: "127.0.0.1"})
    with Proxy({f"{NAME}:{port}": port}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", names)
        redis = UpstashRedis(f"{URL}:{port}", https_endpoint.token)
        assert redis.ping()
        assert proxy.asked == []

        monkeypatch.setenv("NO_PROXY", "elsewhere.test")
        redis = UpstashRedis(f"{URL}:{port}", https_endpoint.token)
        assert redis.ping()
        assert proxy.asked == [f"{NAME}:{port}"]


def test_a_proxy_that_opens_tls_works_with_its_authority_in_the_ca_bundle(
    https_endpoint: LocalEndpoint,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Authority(tmp_path / "office.pem")
    with proxy_to(
        https_endpoint, interception=Interception(office.as_server, authority.as_client)
    ) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(office.bundle))
        assert client_of(https_endpoint).ping()
    assert b"PING" in proxy.seen


@pytest.mark.usefixtures("trusted")
def test_a_proxy_that_opens_tls_is_refused_without_its_authority(
    https_endpoint: LocalEndpoint,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = Authority(tmp_path / "office.pem")
    with proxy_to(
        https_endpoint, interception=Interception(office.as_server, authority.as_client)
    ) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(UnavailableError, match="certificate was refused"):
            client_of(https_endpoint).ping()
    assert proxy.asked == [f"{NAME}:443"], "asked once: it will be no better the next time"
    assert proxy.seen == b""
    assert https_endpoint.usage().requests == 0


def assert_untold(text: str, *secrets: str) -> None:
    for secret in secrets:
        assert secret not in text


def names_known_to(monkeypatch: pytest.MonkeyPatch, addresses: dict[str, str]) -> None:
    resolve = socket.getaddrinfo

    def known(host: str, *args: Any, **kwargs: Any) -> Any:
        return resolve(addresses.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", known)
