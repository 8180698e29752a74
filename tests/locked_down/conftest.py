"""An endpoint that speaks HTTPS, and the authority that vouches for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from upstash_state.local import LocalEndpoint

from .authority import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who vouches for the endpoint."""
    return Authority(tmp_path_factory.mktemp("authority") / "authority.pem")


@pytest.fixture
def https_endpoint(authority: Authority) -> Iterator[LocalEndpoint]:
    """An endpoint on loopback that speaks HTTPS."""
    with LocalEndpoint(tls=authority.as_server) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine needs to get out is no business of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
