"""`serve`: the embedded endpoint for a person at a terminal."""

from __future__ import annotations

import argparse
import errno
import logging
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from ..errors import UpstashError
from ..settings import is_loopback
from .durations import seconds
from .terminal import paragraph

if TYPE_CHECKING:
    from ..local import LocalEndpoint

# Arguments that are not those of LocalEndpoint.
_OTHERS = {"run", "command", "verbose"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serve`."""
    add = parser.add_argument
    add("--port", type=int, default=8079, metavar="N", help="default: 8079; 0: a free one")
    add("--host", default="127.0.0.1", metavar="H", help="default: 127.0.0.1")
    add(
        "--token",
        metavar="T",
        help="default: a random one; other users of this machine can see arguments",
    )
    add("--read-only-token", metavar="T", help="one that may only read; shown if given")
    add("--redis-url", metavar="URL", help="a Redis server to work on; default: one in memory")
    add("--verbose", action="store_true", help="show each request")
    add("--latency", type=seconds, default=0.0, metavar="TIME", help="such as 150ms, each time")
    add("--errors", type=_share, default=0.0, metavar="P", help="such as 20%%: answered with 503")
    add("--quota", type=int, metavar="N", help="commands until the plan's quota is used up")
    add("--rps", type=int, metavar="N", help="requests a second; those beyond get a 429")


def run(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Run Upstash's REST API on this machine.

    Until Ctrl-C. For people's own tests it can also misbehave.

    examples:
      upstash-state serve --token demo-token
      upstash-state serve --latency 150ms --errors 20% --verbose
    """
    from ..local import LocalEndpoint

    out = sys.stdout if out is None else out
    try:
        endpoint = LocalEndpoint(**{n: v for n, v in vars(args).items() if n not in _OTHERS})
        endpoint.start()
    except (OSError, OverflowError) as error:
        print(f"Cannot listen on {args.host}, port {args.port}: {error}", file=out)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            with suppress(OSError), LocalEndpoint(host=args.host) as other:
                print(f"Free at the moment: --port {other.url.rpartition(':')[2]}", file=out)
        return 1
    except (ImportError, UpstashError, ValueError) as error:
        print(f"Cannot start: {error}", file=out)
        return 1
    log = logging.getLogger("upstash_state.local")
    handler = logging.StreamHandler(out)
    # A reader that has seen enough is no reason for a traceback at each request.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    if args.verbose:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    try:
        with endpoint:
            _introduce(endpoint, args, out)
            endpoint.serve_forever()
    except KeyboardInterrupt:
        print(file=out)
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    return 0


def _introduce(endpoint: LocalEndpoint, args: argparse.Namespace, out: TextIO) -> None:
    print(paragraph(f"Upstash's REST API at {endpoint.url}, over {endpoint.backend}.", 0), file=out)
    print(f"\nexport UPSTASH_REDIS_REST_URL={endpoint.url}", file=out)
    print(f"export UPSTASH_REDIS_REST_TOKEN={endpoint.token}\n", file=out)
    if args.read_only_token:
        print(f"The read-only token: {endpoint.read_only_token}\n", file=out)
    if not is_loopback(args.host):
        warning = "Warning: others can reach this host, and this is plain HTTP: whoever can see the"
        print(f"{warning}\ntraffic can read the token, and with it all the data.\n", file=out)
    print("Ctrl-C ends it.", file=out, flush=True)


def _share(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 20% or 0.2")
    return float(match[1]) / (100 if match[2] else 1)
