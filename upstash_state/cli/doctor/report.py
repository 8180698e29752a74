"""The doctor's checks in the order in which one thing needs another, and how they are shown.

The first that fails explains the rest, so it is the last. No finding shows a token, a password or
the path of a URL.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from ...client import UpstashRedis
from ...errors import UpstashError
from ...settings import Settings
from ..terminal import GREEN, RED, YELLOW, coloured, paragraph, print_json, printable
from .advice import wrong
from .database import Database
from .environment import settings, url, variables
from .finding import Finding, Wrong

_COLOURS = {"ok": GREEN, "warning": YELLOW, "wrong": RED}
# Where a finding begins, and its advice.
_FOUND, _ADVICE = 21, 24


def doctor(args: Namespace) -> int:
    """Find out what is wrong with the set-up.

    Stops at the first thing that explains the rest, and says what to do about
    it. Saves, reads and deletes an order of its own. Costs about 20 commands.
    """
    findings: list[tuple[str, Finding]] = []
    for check, finding in examine(os.environ):
        findings.append((check, finding))
        state, found, advice = finding
        if not args.json:
            shown = paragraph(printable(found), _FOUND)
            print(f"{coloured(f'{state:8}', _COLOURS[state])} {check:11} {shown}", flush=True)
        if advice and not args.json:
            print(f"{'':{_FOUND}}-> {paragraph(printable(advice), _ADVICE)}", flush=True)
    bad = any(finding.state == "wrong" for _, finding in findings)
    warnings = sum(finding.state == "warning" for _, finding in findings)
    if args.json:
        checks = [{"check": check, **finding._asdict()} for check, finding in findings]
        print_json({"ok": not bad, "checks": checks})
    elif bad:
        print("\nOne thing is wrong; what comes after it was not checked. Correct it, run again.")
    else:
        counted = f"with {warnings} warning{'' if warnings == 1 else 's'}"
        print(f"\nIt works, {counted}." if warnings else "\nAll is well.")
    return int(bad)


def examine(environ: Mapping[str, str]) -> Iterator[tuple[str, Finding]]:
    """Each finding with the name of its check, up to the first that is wrong.

    Args:
        environ: The variables, as in `os.environ`.
    """
    with ExitStack() as stack:
        try:
            for check, find in (("variables", variables), ("URL", url), ("settings", settings)):
                for finding in find(environ):
                    yield check, finding
            client = stack.enter_context(UpstashRedis.from_env(environ))
            for check, ask in Database(client, Settings(environ)).questions().items():
                for finding in ask():
                    yield check, finding
        except Wrong as problem:
            yield check, problem.finding
        except UpstashError as error:
            yield check, wrong(error, client.url, environ).finding
