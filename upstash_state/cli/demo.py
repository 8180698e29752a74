"""The demo: one process saves orders, a second one restores them, and the first compares them."""

import os
import pickle
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from pprint import pformat
from typing import Any

import click

from .. import UpstashRedis, deserialize_order, redis_delete_order, redis_save_order, reset_client
from ..environment import environment
from ..logs import plural
from ..settings import URL_AND_TOKEN
from .import_ import read, unpacked
from .meter import metered
from .terminal import printable, wrapped

SETTINGS = {
    # If the orders cannot be removed at the end, they expire after an hour.
    "UPSTASH_STATE_TTL": "3600",
    # Each save is a request.
    "UPSTASH_STATE_SKIP_UNCHANGED": "0",
    "UPSTASH_STATE_BACKGROUND": "0",
}
SHIPPED = str(Path(__file__).with_name("demo.jsonl"))
DELETED = "cancelled-1"
# What an app does at its start. URL and token are in the environment, because other users of the
# machine can read a process's arguments.
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
@click.argument("file", default=SHIPPED)
@click.option("--endpoint", type=click.Choice(["local", "env"]), default="local")
def demo(file: str, endpoint: str) -> int:
    """Save orders, restore them in a second process, and compare them.

    It needs no account and no server. With --endpoint env, it uses your database, with a separate
    prefix, and deletes the orders at the end. FILE is an export of your own orders.

    \b
    Examples:
      upstash-state demo
      upstash-state demo --endpoint env
    """
    saved = read_orders(file)
    with _database(endpoint, [*saved, DELETED]) as database:
        print(wrapped(f"Database    {database}", sys.stdout, 12))
        with metered() as cost:
            changes = [redis_save_order(*change) for change in _changes(saved)]
            changes.append(redis_delete_order(DELETED))
        print(f"Saving      process {os.getpid()} saved {plural(len(saved))}", end=" ")
        print(f"in {plural(len(changes), 'change')}\n            {cost}", flush=True)
        # In its own session, so that Ctrl-C ends only this process, which then cleans up.
        second = subprocess.run(
            [sys.executable, "-c", RESTORE], stdout=subprocess.PIPE, start_new_session=True
        )
    if second.returncode:
        raise click.ClickException("the second process failed")
    process, restored, restoring = pickle.loads(second.stdout)
    print(f"Restoring   process {process} began with an empty STATE and restored", end=" ")
    print(f"{plural(len(restored))}\n            {restoring}")
    different = list(differences(saved, restored))
    result = f"{len(different):,} different" if different else "all equal"
    print(f"Comparing   {plural(len(saved))}: {result}")
    for difference in different:
        print(f"            {printable(difference)}")
    return int(bool(different))


def read_orders(file: str) -> dict[str, Order]:
    """Read the orders of an exported file.

    Raises:
        ClickException: The file is not an export.
        OSError: It cannot be read.
    """
    saved = {}
    with unpacked(file) as lines:
        for line in read(lines):
            if line.result:
                raise click.ClickException(f"{file}, line {line.number}: {line.result}")
            saved[line.id] = deserialize_order(line.text)
    return saved


def differences(saved: dict[str, Order], restored: dict[str, Order]) -> Iterator[str]:
    """Yield a sentence for each order that is not as it was saved."""
    for order_id in saved | restored:
        # As texts, because 1, 1.0 and True are equal in Python. Each value has its own line.
        sides = (pformat(side.get(order_id), width=1) for side in (saved, restored))
        for before, after in zip_longest(*map(str.splitlines, sides), fillvalue="nothing"):
            if before != after:
                one, other = (line.strip()[:100] for line in (before, after))
                yield f"order {order_id}: saved {one}, restored {other}"
                break


@contextmanager
def _database(endpoint: str, order_ids: list[str]) -> Iterator[str]:
    """Name a database in the environment, and yield its description."""
    prefix = f"upstash-state-demo-{secrets.token_hex(4)}:"
    with ExitStack() as stack:
        variables = {**SETTINGS, "UPSTASH_STATE_PREFIX": prefix}
        if endpoint == "env":
            client = stack.enter_context(UpstashRedis.from_env())
            client.ping()
            stack.callback(print, f"Removed     all keys {prefix}*")
            stack.callback(client.delete, *(prefix + order_id for order_id in order_ids))
            database = f"{client.url}, keys {prefix}*"
        else:
            # Not at the top: a demo in your own database does not need fakeredis.
            from ..local import LocalEndpoint

            local = stack.enter_context(LocalEndpoint())
            variables |= zip(URL_AND_TOKEN[0], (local.url, local.token))
            database = f"{local.url}, the embedded endpoint over {local.backend}"
        # The process may have a client of another database. At exit, nothing may be sent again.
        stack.callback(reset_client, flush=False)
        stack.enter_context(environment(**variables))
        reset_client(flush=False)
        yield database


def _changes(state: dict[str, Order]) -> Iterator[tuple[str, Order]]:
    """Yield each order after each entry of its history, as an app saves it."""
    for order_id, order in state.items():
        history: Any = order.get("status_history")
        for length in range(1, len(history) if isinstance(history, list) else 0):
            yield order_id, {**order, "status_history": history[:length]}
        yield order_id, order
    yield DELETED, {"name": "cancelled", "status": "new"}
