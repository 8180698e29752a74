"""The command line: runs what was asked for, and says how it ended."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress

from ..errors import UpstashError
from ..settings import DOCTOR
from .terminal import ToolError, complain

# The shells' convention: 128 and the number of the signal that would have ended the process.
INTERRUPTED = 130
BROKEN_PIPE = 141

WINDOWS = os.name == "nt"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, None for those of the process.

    Returns:
        The exit status: 0 fine, 1 something is wrong, 2 usage; 130 after Ctrl-C and 141 when
        nobody reads the output any more, as for other programs in a shell.
    """
    # Where a shell has closed one, Python has None.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.exit("upstash-state: standard output is closed")
    for stream in (sys.stdout, sys.stderr):
        # Orders hold characters that not every terminal can show. In a pipe, Windows's own
        # encoding would not be that in which ids are read again.
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if WINDOWS and not stream.isatty() else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if WINDOWS:
        # Has the console of Windows 10 understand colours (bugs.python.org/issue30075).
        os.system("")
    try:
        # Takes so long that Ctrl-C may come meanwhile.
        from .arguments import parse

        return _run(parse(argv))
    except KeyboardInterrupt as interrupt:
        complain(f"interrupted{interrupt}")
        return INTERRUPTED
    except UpstashError as error:
        complain(str(error))
        if not isinstance(error, ToolError):
            complain(DOCTOR)
        return 1
    except OSError as error:
        # On Windows a closed pipe is an invalid argument (bugs.python.org/issue35754).
        if isinstance(error, BrokenPipeError) or (WINDOWS and error.errno == errno.EINVAL):
            # Python flushes standard output once more when it exits.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1


def _run(args: Namespace) -> int:
    log, shown = logging.getLogger("upstash_state"), _LogLines(logging.WARNING)
    log.addHandler(shown)
    try:
        status: int = args.run(args)
    finally:
        log.removeHandler(shown)
    print(end="", flush=True)
    return status or int(shown.errors)


class _LogLines(logging.Handler):
    """Shows what the package logs, such as an order that cannot be read."""

    errors = False

    def emit(self, record: logging.LogRecord) -> None:
        self.errors |= record.levelno >= logging.ERROR
        complain(record.getMessage())
