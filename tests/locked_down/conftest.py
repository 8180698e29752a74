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
