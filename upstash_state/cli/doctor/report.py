"""The checks, in the order in which they depend on each other, and how they are shown.

No finding shows a token, a password or the path of a URL.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping

import click
from rich.text import Text

from ... import UpstashError, UpstashRedis
from ...logs import plural
from ...settings import Settings
from ..params import json_option
from ..terminal import console, print_json, printable, wrapped
from .advice import Finding, explain
from .database import questions
from .environment import settings, tls, url_and_token, variables

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}
# The columns in which further lines of findings and of advice begin.
_FOUND, _ADVICE = 21, 24


@click.command()
@json_option
@click.pass_obj
def doctor(from_file: Mapping[str, bool], as_json: bool) -> int:
    """Find out what is wrong with the set-up.

    It stops at the first problem, which may cause others, and says what to do. It also saves, reads
    and deletes an order of its own. Costs about 20 commands.

    \b
    Example:
      upstash-state doctor
    """
    findings = []
    for finding in examine(os.environ, from_file):
        findings.append(finding)
        if not as_json:
            _show(finding)
        if finding.state == "wrong":
            break
    states = [finding.state for finding in findings]
    bad, warnings = "wrong" in states, states.count("warning")
    if as_json:
        checks = [{"check": finding.check, **finding._asdict()} for finding in findings]
        print_json({"ok": not bad, "checks": checks})
    elif bad:
        print("\nOne thing is wrong; the later checks did not run. Correct it and run again.")
    else:
        print(f"\nIt works, with {plural(warnings, 'warning')}." if warnings else "\nAll is well.")
    return int(bad)


def examine(environ: Mapping[str, str], from_file: Mapping[str, bool]) -> Iterator[Finding]:
    """Check everything. The caller must stop at the first finding that is wrong.

    Args:
        environ: The variables, as in `os.environ`.
        from_file: The names of variables in the file .env, and whether its value is used.
    """
    yield from _rows("variables", variables(environ, from_file))
    yield from _rows("URL", url_and_token(environ))
    values = Settings(environ)
    yield from _rows("settings", settings(environ, values, from_file))
    yield from _rows("TLS", tls(values.url))
    with UpstashRedis.from_settings(values) as client:
        for check, findings in questions(client, values).items():
            try:
                yield from _rows(check, findings)
            except UpstashError as error:
                yield from _rows(check, [explain(error, values)])


def _rows(check: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    return (finding._replace(check=finding.check or check) for finding in findings)


def _show(finding: Finding) -> None:
    line = f"{finding.state:8} {finding.check:11} {printable(finding.found)}"
    shown = Text(wrapped(line, sys.stdout, _FOUND))
    shown.stylize(_COLOURS[finding.state], 0, 8)
    out = console(sys.stdout)
    out.print(shown)
    if finding.advice:
        out.print(wrapped(f"{'':{_FOUND}}-> {printable(finding.advice)}", sys.stdout, _ADVICE))
    sys.stdout.flush()
