"""The command line: what it understands, which module does it, and how it ends."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SettingsError, UpstashError
from . import serve
from .terminal import UsageError, parse_duration, printable

if TYPE_CHECKING:
    from ..store import OrderStore

# The shells' convention: 128 and the number of the signal that would have ended the process.
INTERRUPTED = 130
BROKEN_PIPE = 141

Run = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, None for those of the process.

    Returns:
        The exit status: 0 fine, 1 something is wrong, 2 usage; 130 after Ctrl-C and 141 when
        nobody reads the output any more, as for other programs in a shell.
    """
    for stream in (sys.stdout, sys.stderr):
        # Orders hold characters that not every terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    run: Run = args.run
    try:
        with _log_lines() as log:
            status = run(args)
        print(end="", flush=True)
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UsageError as error:
        _complain(str(error))
        return 2
    except UpstashError as error:
        _complain(str(error))
        if not isinstance(error, SettingsError):
            _complain("find out why with: upstash-state doctor")
        return 1
    except OSError as error:
        _complain(str(error))
        return 1
    return status or int(log.errors)


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"upstash-state: {printable(text)}", file=sys.stderr)


class _LogLines(logging.Handler):
    """Shows what the package logs, such as an order that cannot be read."""

    errors = False

    def emit(self, record: logging.LogRecord) -> None:
        self.errors |= record.levelno >= logging.ERROR
        _complain(record.getMessage())


@contextmanager
def _log_lines() -> Iterator[_LogLines]:
    log = logging.getLogger("upstash_state")
    handler = _LogLines(logging.WARNING)
    log.addHandler(handler)
    try:
        yield handler
    finally:
        log.removeHandler(handler)


@contextmanager
def _store() -> Iterator[tuple[OrderStore, str]]:
    """The store that the environment names, and what a person may call it."""
    from ..store import OrderStore

    store = OrderStore.from_env()
    with store.client:
        yield store, f"{store.client.url}, keys {store.prefix}*"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="upstash-state",
        description="Orders backed up to Upstash Redis: is the set-up right, what is in the "
        "backup, how to get it out and in. The database is the one that UPSTASH_REDIS_REST_URL "
        "and UPSTASH_REDIS_REST_TOKEN name; the app's UPSTASH_STATE_* settings count here, too.",
        epilog="Exit status: 0 fine, 1 something is wrong, 2 usage.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(
        name: str, run: Run, text: str, more: str = "", *, as_json: bool = True
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=f"{text}. {more}".strip())
        command.set_defaults(run=run)
        if as_json:
            command.add_argument("--json", action="store_true", help="print JSON, for programs")
        return command

    add(
        "doctor",
        _doctor,
        "Find out what is wrong with the set-up",
        "Stops at the first thing that explains the rest, and says what to do about it. Saves, "
        "reads and deletes an order of its own. Costs about 16 commands.",
    )
    add(
        "list",
        _list,
        "List the orders, the youngest first",
        "Where the output is no terminal: a line for each, with tabs between id, age in seconds, "
        "seconds until it expires (-1: never), bytes, status, name. A created_at without an "
        "offset is read as UTC. Costs a command for each order, and two for each 1,000.",
    )
    command = add("show", _show, "Show an order", "Costs 2 commands.")
    command.add_argument("id", metavar="ID")
    add("count", _count, "Count the orders", "Costs a command for each 10,000 keys.")

    command = add(
        "delete",
        _delete,
        "Delete orders",
        "By id, or those created longer ago than an age; an order without created_at is then "
        "kept, and a created_at without an offset is read as UTC. Costs a command for each "
        "1,000 deleted, and two for each 1,000 read.",
    )
    command.add_argument("ids", nargs="*", metavar="ID")
    command.add_argument(
        "--older-than", type=_age, metavar="AGE", help="such as 45s, 30m, 12h, 2d or 1w"
    )
    command.add_argument("--yes", action="store_true", help="do not ask")

    command = add(
        "export",
        _export,
        "Write all orders to a file",
        "A line of JSON for each, with the moment at which it expires. An existing file is "
        "replaced once the new one is complete. Costs as much as list.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="- for standard output")
    command = add(
        "import",
        _import,
        "Read orders from a file that export has written",
        "Each expires when it would have. One that Redis holds in another form is overwritten "
        "if it expires, so was saved, before the file's; otherwise it is newer, and kept. After "
        "an interruption run it again. Costs a command for each order written and one for each "
        "1,000, and one for each that Redis holds in another form.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="- for standard input")
    command.add_argument("--force", action="store_true", help="overwrite newer orders, too")

    command = add(
        "demo",
        _demo,
        "Save orders, restore them in a second process, compare",
        "Needs no account and no server.",
        as_json=False,
    )
    command.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help='orders, a line each: {"id": ..., "stored": ..., "restored": ...}',
    )
    command.add_argument(
        "--endpoint",
        choices=("local", "env"),
        default="local",
        help="local: the embedded endpoint (default); env: the database that the environment "
        "names, under a prefix of its own, removed at the end",
    )

    serve.add_arguments(
        add(
            "serve",
            serve.run,
            "Run Upstash's REST API on this machine",
            "Until Ctrl-C.",
            as_json=False,
        )
    )
    return parser


def _age(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 12h or 2d") from None


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import run

    return run(os.environ, as_json=args.json)


def _list(args: argparse.Namespace) -> int:
    from .browse import list_orders

    with _store() as (store, _):
        return list_orders(store, as_json=args.json)


def _show(args: argparse.Namespace) -> int:
    from .browse import show

    with _store() as (store, _):
        return show(store, args.id, as_json=args.json)


def _count(args: argparse.Namespace) -> int:
    from .browse import count

    with _store() as (store, _):
        return count(store, as_json=args.json)


def _delete(args: argparse.Namespace) -> int:
    from .browse import delete_older, delete_orders

    if bool(args.ids) == (args.older_than is not None):
        raise UsageError("delete takes ids or --older-than: one of the two")
    with _store() as (store, where):
        if args.ids:
            return delete_orders(store, args.ids, where=where, yes=args.yes, as_json=args.json)
        return delete_older(store, args.older_than, where=where, yes=args.yes, as_json=args.json)


def _export(args: argparse.Namespace) -> int:
    from .exporting import export_orders

    with _store() as (store, _):
        return export_orders(store, args.file, as_json=args.json)


def _import(args: argparse.Namespace) -> int:
    from .importing import import_orders

    with _store() as (store, _):
        return import_orders(store, args.file, force=args.force, as_json=args.json)


def _demo(args: argparse.Namespace) -> int:
    from .demo import run

    return run(args.file, args.endpoint)
