"""The command line: what it understands, and which module does it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# The shells' convention: 128 and the number of the signal that would have ended the process.
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments, None for those of the process.

    Returns:
        The exit status: 0 fine, 1 something is wrong, 2 usage, 130 after Ctrl-C.
    """
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        status = run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        with suppress(OSError):
            print("\nInterrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="upstash-state",
        description="Orders backed up to Upstash Redis: a demo and an endpoint to try it on.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="save orders, restore them in a second process, compare",
        description="Save orders, restore them in a second process, compare, and say what it cost.",
    )
    demo.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help='orders, a line each: {"id": ..., "stored": ..., "restored": ...}',
    )
    demo.add_argument(
        "--endpoint",
        choices=("local", "env"),
        default="local",
        help="local: the embedded endpoint (default); env: the database that "
        "UPSTASH_REDIS_REST_URL names, under a prefix of its own, removed at the end",
    )
    demo.set_defaults(run=_demo)

    serve = commands.add_parser(
        "serve",
        help="run Upstash's REST API on this machine",
        description="Run Upstash's REST API on this machine, until Ctrl-C.",
    )
    serve.add_argument("--port", type=int, default=8079, metavar="N", help="default: %(default)s")
    serve.add_argument("--host", default="127.0.0.1", metavar="H", help="default: %(default)s")
    serve.add_argument("--token", metavar="T", help="default: a random one")
    serve.add_argument(
        "--redis-url", metavar="URL", help="a Redis server to work on; default: one in memory"
    )
    serve.set_defaults(run=_serve)
    return parser


def _demo(args: argparse.Namespace) -> int:
    from .demo import run

    return run(args.file, args.endpoint)


def _serve(args: argparse.Namespace) -> int:
    from .local import serve

    return serve(args.port, args.token, args.redis_url, args.host)
