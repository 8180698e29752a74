"""What the command line understands. Its help is the commands' docstrings."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from .. import __version__, cli
from . import serve
from .browse import count, delete, show
from .demo import demo
from .doctor import doctor
from .durations import seconds
from .exporting import export
from .importing import import_orders
from .listing import HEADINGS, columns_named, list_orders

Run = Callable[[argparse.Namespace], int]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments. Where that is all there is to do, end the process.

    Args:
        argv: The arguments, None for those of the process.

    Returns:
        The arguments, with the command's function as `run` and its parser as `command`.
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    args, rest = parser.parse_known_args(argv)
    if rest:
        args.command.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*?)'|unrecognized arguments: ([^ =]+)", message)
        if found:
            known = message.partition("choose from")[2] or self.format_usage()
            near = get_close_matches(found[1] or found[2], re.findall(r"[\w-]+", known), 1)
            # Python says so itself from 3.15 on.
            if near and "maybe you meant" not in message:
                message += f"; did you mean {near[0]}?"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser("upstash-state", description=cli.__doc__, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"upstash-state {__version__}")
    parser.set_defaults(run=lambda args: parser.print_help(), command=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, run: Run, *, as_json: bool = True) -> argparse.ArgumentParser:
        text = inspect.getdoc(run) or ""
        summary = text.partition("\n")[0].rstrip(".")
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=text, formatter_class=raw
        )
        command.set_defaults(run=run, command=command)
        if as_json:
            command.add_argument("--json", action="store_true", help="print JSON, for programs")
        return command

    add("doctor", doctor)

    option = add("list", list_orders).add_argument
    option("--limit", type=_number, metavar="N", help="so many at most")
    option("--status", type=_utf8, action="append", metavar="S", help="only this; may be repeated")
    option("--sort", choices=HEADINGS, default="age", metavar="COLUMN", help="default: age")
    option("--reverse", action="store_true", help="the other way round")
    option("--columns", type=columns_named, metavar="A,B", help=f"of {', '.join(HEADINGS)}")
    option("--header", action="store_true", help="in a pipe, begin with the columns' names")
    option("--watch", nargs="?", type=_number, const=10, metavar="S", help="look each S seconds")

    add("show", show).add_argument("ids", type=_utf8, nargs="+", metavar="ID", help="- for stdin")
    add("count", count)

    option = add("delete", delete).add_argument
    option("ids", type=_utf8, nargs="*", metavar="ID", help="- for standard input, a line each")
    option("--older-than", type=seconds, metavar="AGE", help="such as 45s, 30m, 12h, 2d or 1w")
    option("--yes", action="store_true", help="do not ask")

    option = add("export", export).add_argument
    option("file", type=Path, metavar="FILE", help="- for standard output; .gz is compressed")
    option = add("import", import_orders).add_argument
    option("file", type=Path, metavar="FILE", help="- for standard input")
    option("--force", action="store_true", help="overwrite newer orders, too")

    option = add("demo", demo, as_json=False).add_argument
    option("file", nargs="?", type=Path, metavar="FILE", help="orders of your own, a line each")
    option("--endpoint", choices=("local", "env"), default="local", help="default: local")
    serve.add_arguments(add("serve", serve.run, as_json=False))
    return parser


def _utf8(text: str) -> str:
    # As in Redis and on standard input; Python has read it in the locale's encoding (PEP 383).
    return text.encode(errors="surrogateescape").decode(errors="surrogateescape")


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 999999")
