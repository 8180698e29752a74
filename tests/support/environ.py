"""What the environment says to the package, and what tests put in place of an account."""

from __future__ import annotations

import os

import pytest

#: An endpoint that does not exist, for tests in which nothing is sent, or all of it is mocked.
URL = "https://test.upstash.io"
TOKEN = "s3cret-token"
#: Seconds that a call may take: more than it should, since the machine may be busy.
TIMEOUT = 30.0

_READ = ("UPSTASH_", "KV_REST_API_")
_FOR_TESTS = "UPSTASH_STATE_TEST_"
_READ_BY_OTHERS = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSLKEYLOGFILE",
)


class Environ:
    """This process's environment: what a test sets, until it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def clean(self) -> None:
        """Take away what the package reads, and how whoever runs the tests likes pytest."""
        for name in list(os.environ):
            if name.startswith(_FOR_TESTS):
                continue
            if name.startswith(_READ) or name.upper() in _READ_BY_OTHERS:
                self._monkeypatch.delenv(name)
        self._monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        self.set(UPSTASH_STATE_TIMEOUT=f"{TIMEOUT:g}")

    def use(self, url: str, token: str, **more: str) -> None:
        """Name a database, and set other variables."""
        self.set(UPSTASH_REDIS_REST_URL=url, UPSTASH_REDIS_REST_TOKEN=token, **more)

    def set(self, **variables: str) -> None:
        """Set variables."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
