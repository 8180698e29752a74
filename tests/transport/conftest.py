"""Fixtures of the transport's tests: an endpoint that misbehaves on the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.faults import Certificates, FaultServer


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
