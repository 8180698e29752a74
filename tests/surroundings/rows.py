"""The matrix: which software, in which environment, and the script that tries it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Attributes:
        script: The name of a file in scripts/. The first line of its docstring is what it tries.
        environment: The name of a file in requirements/. None: the Python that runs the tests.
        software: The distributions, as that file names them, or what the table is to say.
    """

    script: str
    environment: str | None
    software: tuple[str, ...]

    @property
    def file(self) -> Path:
        return HERE / "scripts" / f"{self.script}.py"

    @property
    def tried(self) -> str:
        """What the script tries."""
        return (ast.get_docstring(ast.parse(self.file.read_text("utf-8"))) or "").split("\n")[0]

    @property
    def versions(self) -> dict[str, str]:
        """The version of each distribution, as its requirements name it."""
        if self.environment is None:
            return {}
        pins = pinned(self.environment)
        return {name: pins[name] for name in self.software}

    @property
    def line(self) -> str:
        """Its line of the table, in Markdown."""
        versions = ", ".join(self.versions.values()) or "standard library"
        return f"| {', '.join(self.software)} | {versions} | {self.tried} |"


def pinned(environment: str) -> dict[str, str]:
    """The versions that an environment is made of, by distribution."""
    text = (HERE / "requirements" / f"{environment}.txt").read_text("utf-8")
    return dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.M))


ROWS = [
    Row("plain", "newest", ("requests", "urllib3")),
    Row("plain", "older", ("requests", "urllib3")),
    Row("gevent_https", "newest", ("gevent",)),
    Row("gevent_https", "older", ("gevent", "urllib3")),
    Row("gevent_imported", "newest", ("gevent",)),
    Row("gevent_late", "newest", ("gevent",)),
    Row("gunicorn_gevent", "newest", ("gunicorn", "gevent")),
    Row("gunicorn_gevent", "older", ("gunicorn", "gevent")),
    Row("uwsgi_preforked", "newest", ("pyuwsgi",)),
    Row("eventlet_https", "newest", ("eventlet",)),
    Row("eventlet_https", "older", ("eventlet", "urllib3")),
    Row("eventlet_imported", "newest", ("eventlet",)),
    Row("eventlet_late", "newest", ("eventlet",)),
    Row("uvloop_anyio", "newest", ("uvloop", "anyio")),
    Row("truststore_injected", "newest", ("truststore",)),
    Row("truststore_injected", "older", ("truststore", "urllib3")),
    Row("system_certs", "system-certs", ("pip-system-certs",)),
    Row("pyopenssl_injected", "newest", ("pyOpenSSL",)),
    Row("socks_proxy", "newest", ("PySocks",)),
    Row("socks_proxy", "older", ("PySocks", "urllib3")),
    Row("socks_missing", "newest", ("PySocks",)),
    Row("niquests_beside", "niquests", ("niquests",)),
    Row("requests_mock_sees", "newest", ("requests-mock",)),
    Row("requests_mock_sees", "older", ("requests-mock", "urllib3")),
    Row("responses_sees", "newest", ("responses",)),
    Row("responses_sees", "older", ("responses", "urllib3")),
    Row("requests_patched", "newest", ("requests",)),
    Row("requests_patched", "older", ("requests", "urllib3")),
    Row("mocket_sees", "newest", ("mocket",)),
    Row("vcr_before", "newest", ("vcrpy",)),
    Row("vcr_before", "older", ("vcrpy", "urllib3")),
    Row("vcr_inside", "newest", ("vcrpy",)),
    Row("vcr_inside", "older", ("vcrpy", "urllib3")),
    Row("pytest_recording_suite", "newest", ("pytest-recording", "vcrpy")),
    Row("pytest_socket_orders", "newest", ("pytest-socket",)),
    Row("requests_cache_installed", "newest", ("requests-cache",)),
    Row("opentelemetry_requests", "newest", ("opentelemetry-instrumentation-requests",)),
    Row("opentelemetry_urllib3", "newest", ("opentelemetry-instrumentation-urllib3",)),
    Row("ddtrace_requests", "newest", ("ddtrace",)),
    Row("elastic_apm", "newest", ("elastic-apm",)),
    Row("sentry_stdlib", "newest", ("sentry-sdk",)),
    Row("freezegun_frozen", "newest", ("freezegun",)),
    Row("time_machine_travels", "newest", ("time-machine",)),
    Row("typing_pydantic", "newest", ("pydantic",)),
    Row("token_in_frames", "newest", ("rich",)),
    Row("logging_handler_saves", None, ("logging",)),
    Row("signal_handler_saves", None, ("signal",)),
    Row("exceptions_travel", None, ("multiprocessing", "concurrent.futures")),
]

HEAD = ["| works with | version | what was tried |", "| --- | --- | --- |"]


def table(rows: list[Row]) -> str:
    """The matrix as a table in Markdown."""
    return "\n".join([*HEAD, *(row.line for row in rows)])
