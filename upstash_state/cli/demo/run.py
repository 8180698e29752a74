"""The demo: one process saves orders and is gone, another restores them and compares."""

from __future__ import annotations

import os
import pickle
import secrets
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...client import UpstashRedis
from ...environment import environment
from ...errors import UpstashError
from ...process import reset_client
from ...settings import URL_AND_TOKEN
from ...state import get_redis_client, redis_delete_order, redis_save_order
from ..terminal import orders, paragraph, printable
from . import restore
from .meter import metered
from .orders import Order, Sample, from_file, shipped

SETTINGS = {
    # Removed at the end; should that be prevented, the orders are gone after an hour.
    "UPSTASH_STATE_TTL": "3600",
    # Each save is a request.
    "UPSTASH_STATE_SKIP_UNCHANGED": "0",
    "UPSTASH_STATE_BACKGROUND": "0",
}
DELETED = "cancelled-1"


def demo(args: Namespace) -> int:
    """Save orders, restore them in a second process, compare.

    Needs no account and no server. With --endpoint env the orders get a prefix
    of their own in your database, and are removed at the end.

    examples:
      upstash-state demo
      upstash-state demo --endpoint env
    """
    try:
        samples = shipped() if args.file is None else from_file(args.file)
        with ExitStack() as stack:
            enter = _local() if args.endpoint == "local" else _named_by_environment(samples)
            print(f"Database    {paragraph(stack.enter_context(enter), 12)}")
            return _save_and_restore(samples)
    except (UpstashError, ImportError) as error:
        print(f"The demo cannot run: {printable(str(error))}")
        return 1


@contextmanager
def _local() -> Iterator[str]:
    # fakeredis may be missing, and who has a database of their own does not need it.
    from ...local import LocalEndpoint

    with LocalEndpoint() as endpoint:
        credentials = dict(zip(URL_AND_TOKEN[0], (endpoint.url, endpoint.token)))
        with _environment(UPSTASH_STATE_PREFIX="order:", **credentials):
            yield f"{endpoint.url}, the embedded endpoint over {endpoint.backend}"


@contextmanager
def _named_by_environment(samples: list[Sample]) -> Iterator[str]:
    prefix = f"upstash-state-demo-{secrets.token_hex(4)}:"
    with UpstashRedis.from_env() as client, _environment(UPSTASH_STATE_PREFIX=prefix):
        client.ping()
        try:
            yield f"{client.url}, keys {prefix}*"
        finally:
            keys = [prefix + order_id for order_id in [DELETED, *(s.order_id for s in samples)]]
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


def _save_and_restore(samples: list[Sample]) -> int:
    state: dict[str, Order] = {}
    with metered() as saving:
        if get_redis_client() is None:
            print("The demo cannot run: the database does not answer")
            return 1
        changes, unsaved = _take_orders_in(samples, state)
    print(
        f"Saving      process {os.getpid()} backed up each of {changes} changes; "
        f"its STATE holds {orders(len(state))}\n            {saving}",
    )
    for said in unsaved:
        print(f"            {printable(said)}")
    sys.stdout.flush()
    # The token goes in the environment: other users can read a process's arguments.
    code = f"import sys; from {restore.__name__} import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(state),
        # Ctrl-C is this process's to handle: it ends the second one and cleans up.
        start_new_session=True,
    )
    if done.returncode not in (0, restore.DIFFERENT):
        print("Restoring   the second process failed")
    return 1 if unsaved or done.returncode else 0


def _take_orders_in(samples: list[Sample], state: dict[str, Order]) -> tuple[int, list[str]]:
    """What an app does: change STATE, back the order up. How often, and what was not saved."""
    changes = 0
    unsaved = []
    for sample in samples:
        for order in _life(sample.order):
            state[sample.order_id] = order
            changes += 1
            if not redis_save_order(sample.order_id, order):
                unsaved.append(f"order {sample.order_id} was not saved")
    changes += 2
    cancelled = {"name": "cancelled", "status": "new"}
    if not redis_save_order(DELETED, cancelled) or not redis_delete_order(DELETED):
        unsaved.append(f"order {DELETED} was not saved and deleted")
    return changes, unsaved


def _life(order: Order) -> Iterator[Order]:
    """The order after each entry of its history."""
    history = order.get("status_history")
    if isinstance(history, list):
        for length in range(1, len(history)):
            yield {**order, "status_history": history[:length]}
    yield order
