"""The demo: one process saves orders and ends, another restores them; they are compared."""

import json
import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from pprint import pformat
from typing import Any

import click

from ..client import UpstashRedis
from ..environment import environment
from ..process import reset_client
from ..serialization import deserialize_order
from ..settings import URL_AND_TOKEN
from ..state import get_redis_client, redis_delete_order, redis_save_order
from .meter import metered
from .terminal import orders, printable, wrapped

SETTINGS = {
    # Orders are removed at the end; if that is prevented, they expire after an hour.
    "UPSTASH_STATE_TTL": "3600",
    # Each save is a request.
    "UPSTASH_STATE_SKIP_UNCHANGED": "0",
    "UPSTASH_STATE_BACKGROUND": "0",
}
SHIPPED = Path(__file__).with_name("demo.jsonl")
DELETED = "cancelled-1"
# What an app does at its start. URL and token come in the environment: other users of the machine
# can read a process's arguments.
RESTORE = """
import os, pickle, sys
from upstash_state import redis_get_all_orders
from upstash_state.cli.meter import metered
with metered() as cost:
    STATE = redis_get_all_orders()
pickle.dump((os.getpid(), STATE, str(cost)), sys.stdout.buffer)
"""

Order = dict[str, Any]


@click.command()
@click.argument("file", type=Path, default=SHIPPED)
@click.option("--endpoint", type=click.Choice(["local", "env"]), default="local")
def demo(file: Path, endpoint: str) -> int:
    """Save orders, restore them in a second process, compare.

    Needs no account and no server. With --endpoint env the orders get a prefix of their own in your
    database, and are removed at the end. FILE is an export of your own orders.

    \b
    Examples:
      upstash-state demo
      upstash-state demo --endpoint env
    """
    saved = read_orders(file)
    with _local() if endpoint == "local" else _named_by_environment([*saved, DELETED]) as database:
        print(f"Database    {wrapped(database, sys.stdout, 12)}")
        with metered() as cost:
            if get_redis_client() is None:
                raise click.ClickException("the database does not answer")
            changes = _save(saved)
        print(f"Saving      process {os.getpid()} saved {orders(len(saved))} in {changes} changes")
        print(f"            {cost}", flush=True)
        # In a session of its own, Ctrl-C ends this process, which then cleans up.
        second = subprocess.run(
            [sys.executable, "-c", RESTORE], stdout=subprocess.PIPE, start_new_session=True
        )
    if second.returncode:
        raise click.ClickException("the second process failed")
    process, restored, restoring = pickle.loads(second.stdout)
    print(f"Restoring   process {process} began with an empty STATE and restored", end=" ")
    print(f"{orders(len(restored))}\n            {restoring}")
    different = list(differences(saved, restored))
    print(f"Comparing   {orders(len(saved))}: {len(different) or 'none'} different")
    for difference in different:
        print(f"            {printable(difference)}")
    return int(bool(different))


def read_orders(path: Path) -> dict[str, Order]:
    """Read the orders of a file of export.

    Raises:
        ClickException: It is another kind of file.
        OSError: It cannot be read.
    """
    saved = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            fields = json.loads(line)
            saved[str(fields["id"])] = deserialize_order(fields["stored"])
        except (ValueError, TypeError, LookupError):
            form = '{"id": "...", "stored": "..."}'
            raise click.ClickException(f"{path}, line {number}, is not like {form}") from None
    return saved


def differences(saved: dict[str, Order], restored: dict[str, Order]) -> Iterator[str]:
    """Yield a sentence for each order that is not as it was saved."""
    for order_id in saved | restored:
        # Texts, since for Python 1, 1.0 and True are equal. A line for each value.
        sides = (pformat(side.get(order_id), width=1) for side in (saved, restored))
        for before, after in zip_longest(*map(str.splitlines, sides), fillvalue="nothing"):
            if before != after:
                one, other = (line.strip()[:100] for line in (before, after))
                yield f"order {order_id}: saved {one}, restored {other}"
                break


@contextmanager
def _local() -> Iterator[str]:
    # Only here: a demo in a database of your own does not need fakeredis.
    from ..local import LocalEndpoint

    try:
        with LocalEndpoint() as endpoint:
            credentials = dict(zip(URL_AND_TOKEN[0], (endpoint.url, endpoint.token)))
            with _environment(UPSTASH_STATE_PREFIX="order:", **credentials):
                yield f"{endpoint.url}, the embedded endpoint over {endpoint.backend}"
    except ImportError as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _named_by_environment(order_ids: list[str]) -> Iterator[str]:
    prefix = f"upstash-state-demo-{secrets.token_hex(4)}:"
    with UpstashRedis.from_env() as client, _environment(UPSTASH_STATE_PREFIX=prefix):
        client.ping()
        try:
            yield f"{client.url}, keys {prefix}*"
        finally:
            keys = [prefix + order_id for order_id in order_ids]
            for begin in range(0, len(keys), 1000):
                client.delete(*keys[begin : begin + 1000])
            print(f"Removed     all keys {prefix}*")


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for this process's one client, and for the second process."""
    try:
        with environment(**variables, **SETTINGS):
            reset_client(flush=False)
            yield
    finally:
        reset_client(flush=False)


def _save(state: dict[str, Order]) -> int:
    """Save each order after each entry of its history, as an app does; return how often."""
    changes = 2
    for order_id, order in state.items():
        history = order.get("status_history")
        history = history if isinstance(history, list) else []
        for length in range(1, len(history)):
            redis_save_order(order_id, {**order, "status_history": history[:length]})
        redis_save_order(order_id, order)
        changes += max(len(history), 1)
    redis_save_order(DELETED, {"name": "cancelled", "status": "new"})
    redis_delete_order(DELETED)
    return changes
