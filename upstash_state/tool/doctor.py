"""`doctor`: what is wrong with the set-up, and what to do about it.

The checks stand in the order in which one thing needs another, and the first that fails explains
the rest, so it is the last. No finding shows a token, a password or the path of a URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from ..settings import Settings
from .doctor_database import Database
from .doctor_finding import Finding, State, Wrong
from .doctor_network import Route
from .doctor_settings import form, variables
from .terminal import printable

Check = Callable[[], Iterator[Finding]]


def run(environ: Mapping[str, str], *, as_json: bool) -> int:
    """Examine the set-up and print what is found. Costs about 16 commands.

    Args:
        environ: The variables, as in `os.environ`.
        as_json: Whether to print one JSON object instead of lines.

    Returns:
        The exit status: 0 when nothing is wrong, otherwise 1.
    """
    findings = []
    for name, finding in examine(environ):
        findings.append((name, finding))
        if not as_json:
            print(f"{finding.state.value:8} {name:11} {printable(finding.found)}", flush=True)
            if finding.advice:
                print(f"{'':8} {'':11} -> {printable(finding.advice)}", flush=True)
    well = all(finding.state is not State.WRONG for _, finding in findings)
    if as_json:
        checks = [
            {"check": name, **finding._asdict(), "state": finding.state.value}
            for name, finding in findings
        ]
        print(json.dumps({"ok": well, "checks": checks}, indent=2))
    return 0 if well else 1


def examine(environ: Mapping[str, str]) -> Iterator[tuple[str, Finding]]:
    """Each finding with the name of its check, up to the first that is wrong."""
    try:
        yield from _findings(
            {"variables": lambda: variables(environ), "URL": lambda: form(environ)}
        )
        settings = Settings(environ)
        yield from _findings(_network(settings))
        database = Database(settings)
        try:
            yield from _findings(_database(database))
        finally:
            database.close()
    except _Ended:
        return


class _Ended(Exception):
    """Raised after the first finding that is wrong."""


def _findings(checks: Mapping[str, Check]) -> Iterator[tuple[str, Finding]]:
    for name, check in checks.items():
        try:
            for finding in check():
                yield name, finding
        except Wrong as wrong:
            yield name, wrong.finding
            raise _Ended from None


def _network(settings: Settings) -> dict[str, Check]:
    return {
        "name": lambda: Route(settings).name(),
        "connection": lambda: Route(settings).connection(),
        "TLS": lambda: Route(settings).tls(),
    }


def _database(database: Database) -> dict[str, Check]:
    return {
        "token": database.token,
        "writing": database.writing,
        "SCAN": database.scanning,
        "round trip": database.speed,
        "memory": database.fullness,
        "orders": database.count,
        "probe order": database.probe,
    }
