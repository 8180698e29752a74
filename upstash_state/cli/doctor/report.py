"""The checks in the order in which one needs another, and how they are shown.

No finding shows a token, a password or the path of a URL.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import click
from rich.text import Text

from ...client import UpstashRedis
from ...errors import UpstashError
from ...settings import Settings
from ..params import json_option
from ..terminal import console, print_json, printable, wrapped
from .advice import explain
from .database import questions
from .environment import settings, tls, url_and_token, variables
from .finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}
# The columns in which findings and advice begin.
_FOUND, _ADVICE = 21, 24


@click.command()
@json_option
@click.pass_obj
def doctor(from_file: Mapping[str, bool], as_json: bool) -> int:
    """Find out what is wrong with the set-up.

    Stops at the first thing that explains the rest, and says what to do about it. Saves, reads and
    deletes an order of its own. Costs about 20 commands.

    \b
    Example:
      upstash-state doctor
    """
    findings = []
    for finding in examine(os.environ, from_file):
        findings.append(finding)
        if not as_json:
            _show(finding)
    states = [finding.state for finding in findings]
    bad, warnings = "wrong" in states, states.count("warning")
    if as_json:
        checks = [{"check": finding.check, **finding._asdict()} for finding in findings]
        print_json({"ok": not bad, "checks": checks})
    elif bad:
        print("\nOne thing is wrong; the checks after it were left out. Correct it, run again.")
    else:
        counted = f"with {warnings} warning{'' if warnings == 1 else 's'}"
        print(f"\nIt works, {counted}." if warnings else "\nAll is well.")
    return int(bad)


def examine(environ: Mapping[str, str], from_file: Mapping[str, bool]) -> Iterator[Finding]:
    """Check everything, up to the first finding that is wrong.

    Args:
        environ: The variables, as in `os.environ`.
        from_file: The names of variables in the file .env, and whether its value is used.
    """
    with ExitStack() as stack:
        for check, find in _checks(environ, from_file, stack):
            try:
                for finding in find():
                    yield finding._replace(check=finding.check or check)
                    if finding.state == "wrong":
                        return
            except UpstashError as error:
                finding = explain(error, Settings(environ))
                yield finding._replace(check=finding.check or check)
                return


def _checks(
    environ: Mapping[str, str], from_file: Mapping[str, bool], stack: ExitStack
) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    yield "variables", lambda: variables(environ, from_file)
    yield "URL", lambda: url_and_token(environ)
    values = Settings(environ)
    yield "settings", lambda: settings(environ, values, from_file)
    yield "TLS", lambda: tls(values.url)
    client = stack.enter_context(UpstashRedis.from_settings(values))
    yield from questions(client, values).items()


def _show(finding: Finding) -> None:
    state = Text(f"{finding.state:8}", _COLOURS[finding.state])
    found = wrapped(printable(finding.found), sys.stdout, _FOUND)
    out = console(sys.stdout)
    out.print(Text.assemble(state, f" {finding.check:11} {found}"))
    if finding.advice:
        out.print(f"{'':{_FOUND}}-> {wrapped(printable(finding.advice), sys.stdout, _ADVICE)}")
    sys.stdout.flush()
