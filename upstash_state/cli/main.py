"""The command line: its commands, the file .env, and how a command ends."""

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress

import click
from click.shell_completion import shell_complete
from dotenv import dotenv_values

from .. import MissingCredentialsError, UpstashError, __version__
from ..environment import environment
from ..settings import CREDENTIALS, DOCTOR, credentials
from .browse import browse
from .delete import delete
from .demo import demo
from .doctor.report import doctor
from .export import export
from .import_ import import_orders
from .list import list_orders
from .serve import serve
from .show import count, show
from .terminal import complain

NAME, COMPLETE = "upstash-state", "_UPSTASH_STATE_COMPLETE"
# Shells add the number of a signal to 128.
INTERRUPTED, BROKEN_PIPE = 130, 141
WINDOWS = os.name == "nt"
COMMANDS = [doctor, list_orders, show, count, browse, delete, export, import_orders, demo, serve]


@click.group(
    commands=COMMANDS, invoke_without_command=True, context_settings={"show_default": True}
)
@click.version_option(__version__, message="upstash-state %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Check, show, export and import the orders that an app backs up to Upstash Redis.

    UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN name the database. They, and the app's
    UPSTASH_STATE_* settings, come from the environment, or from a file .env in the current
    directory.

    \b
    Examples:
      upstash-state doctor
      upstash-state list --status new
      upstash-state export orders.jsonl.gz

    \b
    Exit status: 0 for success, 1 for a failure, 2 for wrong usage.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, None for those of the process.

    Returns:
        The exit status: 0 for success, 1 for a failure, 2 for wrong usage. As for other programs
        in a shell, 130 after Ctrl-C, and 141 when the reader of the output has ended.
    """
    # Python has None for a stream that the shell has closed.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        complain("standard output is closed")
        return 1
    for stream in (sys.stdout, sys.stderr):
        # Orders hold characters that not every terminal can show. In a pipe on Windows, ids are
        # read again as UTF-8.
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if WINDOWS and not stream.isatty() else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if asked := os.environ.get(COMPLETE):
        return shell_complete(cli, {}, NAME, COMPLETE, asked)
    log, shown = logging.getLogger("upstash_state"), _LogLines(logging.WARNING)
    log.addHandler(shown)
    try:
        arguments = list(sys.argv[1:] if argv is None else argv)
        values = _read_file()
        used = _used(values)
        from_file = {name: name in used for name in values}
        # Not cli.main(), which ends the process after a closed pipe.
        with environment(**used), cli.make_context(NAME, arguments, obj=from_file) as context:
            status: int = cli.invoke(context)
        print(end="", flush=True)
        return status or int(shown.errors)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort) as interrupt:
        complain(f"interrupted{interrupt}")
        return INTERRUPTED
    except click.ClickException as error:
        usage = isinstance(error, click.UsageError) and error.ctx
        help = f" Try '{usage.command_path} --help'." if usage else ""
        complain(f"{error.format_message()}{help}")
        return error.exit_code
    except (UpstashError, ImportError) as error:
        complain(str(error))
        if isinstance(error, UpstashError):
            complain(DOCTOR)
        return 1
    except OSError as error:
        # On Windows a closed pipe is an invalid argument (bugs.python.org/issue35754).
        if isinstance(error, BrokenPipeError) or (WINDOWS and error.errno == errno.EINVAL):
            # Python flushes standard output once more at exit.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    finally:
        log.removeHandler(shown)


def _read_file() -> dict[str, str]:
    """Read the file .env in the current directory."""
    try:
        # Reading anything else, such as a FIFO, could block.
        values = dotenv_values(".env", encoding="utf-8-sig") if os.path.isfile(".env") else {}
    except (OSError, ValueError) as error:
        complain(f"the file .env here cannot be read: {error}")
        return {}
    return {name: value for name, value in values.items() if value and "\0" not in value}


def _used(values: dict[str, str]) -> dict[str, str]:
    """Return the package's variables from the file .env that the environment does not set.

    A URL and token in the environment are not mixed with those of another database in the file.
    """
    taken = set(os.environ)
    with suppress(MissingCredentialsError):
        credentials(os.environ)
        taken.update(CREDENTIALS)
    own = re.compile("UPSTASH_|KV_REST_API_")
    return {n: value for n, value in values.items() if own.search(n) and n not in taken}


class _LogLines(logging.Handler):
    """Shows what the package logs, for example that an order cannot be read."""

    errors = False

    def emit(self, record: logging.LogRecord) -> None:
        self.errors |= record.levelno >= logging.ERROR
        complain(record.getMessage())
