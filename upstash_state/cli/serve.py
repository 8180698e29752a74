"""`serve`: the embedded endpoint at a terminal."""

import logging
import sys
from errno import EADDRINUSE
from typing import Any

import click

from .. import SettingsError, UpstashError
from ..settings import check_token, is_loopback
from .params import seconds, share
from .terminal import wrapped


def _token(text: str) -> str:
    try:
        check_token(text)
    except SettingsError as error:
        raise click.BadParameter(f"{str(error).partition(':')[0]}.") from None
    return text


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8079, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", metavar="H", help="Address to listen on.")
@click.option(
    "--token", type=_token, metavar="T", help="Random unless given. Other users can see arguments."
)
@click.option("--read-only-token", type=_token, metavar="T", help="A token that may only read.")
@click.option("--redis-url", metavar="URL", help="Use a Redis server, not memory.")
@click.option("--verbose", is_flag=True, help="Show each request.")
@click.option(
    "--latency", type=seconds, default="0s", metavar="TIME", help="Delay of each request."
)
@click.option(
    "--errors", type=share, default="0%", metavar="P", help="Share of requests that get a 503."
)
@click.option("--quota", type=click.IntRange(0), metavar="N", help="Refuse commands after N.")
@click.option(
    "--rps", type=click.IntRange(1), metavar="N", help="Most requests a second; more get a 429."
)
def serve(host: str, port: int, read_only_token: str | None, verbose: bool, **options: Any) -> int:
    """Run Upstash's REST API on this machine, until Ctrl-C.

    To test your app, it can simulate faults: --latency, --errors, --quota and --rps.

    \b
    Examples:
      upstash-state serve
      upstash-state serve --latency 150ms --errors 20% --verbose
    """
    from ..local import LocalEndpoint

    try:
        endpoint = LocalEndpoint(host=host, port=port, read_only_token=read_only_token, **options)
        endpoint.start()
    except (OSError, UpstashError, ValueError) as error:
        hint = " (--port 0 takes a free one)" if getattr(error, "errno", 0) == EADDRINUSE else ""
        text = getattr(error, "strerror", None) or error
        raise click.ClickException(f"cannot start on {host}, port {port}: {text}{hint}") from None
    log = logging.getLogger("upstash_state.local")
    handler = logging.StreamHandler(sys.stdout)
    # Without a reader of the output, each request would print a traceback.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    if verbose:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    try:
        with endpoint:
            over = f"Upstash's REST API at {endpoint.url}, over {endpoint.backend}."
            print(wrapped(over, sys.stdout))
            print(f"\nexport UPSTASH_REDIS_REST_URL={endpoint.url}")
            print(f"export UPSTASH_REDIS_REST_TOKEN={endpoint.token}\n")
            if read_only_token:
                print(f"The read-only token: {endpoint.read_only_token}\n")
            if not is_loopback(host):
                warning = (
                    "Warning: others can reach this host over plain HTTP. Anyone who sees the "
                    "traffic can read the token, and use it to read all data."
                )
                print(f"{wrapped(warning, sys.stdout)}\n")
            print("Ctrl-C ends it.", flush=True)
            endpoint.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    return 0
