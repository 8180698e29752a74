"""The demo: one process saves orders and is gone, another restores them and compares."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from ..client import UpstashRedis
from ..errors import UpstashError
from ..process import reset_client
from ..serialization import deserialize_order
from ..settings import Settings
from ..state import get_redis_client, redis_delete_order, redis_save_order
from . import demo_restore
from .demo_meter import Cost, metered
from .demo_orders import Order, Sample, UnusableFileError, from_file, shipped, to_text
from .terminal import orders, printable

# Removed at the end; should that be prevented, the orders are gone after an hour.
TTL = "3600"
DELETED = "cancelled-1"


def run(file: Path | None = None, endpoint: str = "local", out: TextIO | None = None) -> int:
    """Show that orders survive the process that saved them.

    Args:
        file: Orders to save, in the form that `demo_orders.from_file` reads; None for a few that
            ship with the demo.
        endpoint: "local" for the embedded endpoint, "env" for the database that the environment
            names. There the orders get a prefix of their own, and are removed at the end.
        out: Where to print to, None for standard output.

    Returns:
        The exit status: 0 when every order came back as it was saved, otherwise 1.
    """
    out = sys.stdout if out is None else out
    try:
        samples = shipped() if file is None else from_file(file)
        with ExitStack() as stack:
            if endpoint == "local":
                where = stack.enter_context(_local())
            else:
                where = stack.enter_context(_named_by_environment(samples, out))
            print(f"Database    {where}", file=out)
            return _save_and_restore(samples, out)
    except (UnusableFileError, UpstashError, ImportError) as error:
        print(f"The demo cannot run: {printable(str(error))}", file=out)
        return 1


@contextmanager
def _local() -> Iterator[str]:
    # fakeredis may be missing, and who has a database of their own does not need it.
    from ..local import LocalEndpoint

    with (
        LocalEndpoint() as endpoint,
        _environment(
            UPSTASH_REDIS_REST_URL=endpoint.url,
            UPSTASH_REDIS_REST_TOKEN=endpoint.token,
            UPSTASH_STATE_PREFIX="order:",
        ),
    ):
        yield f"{endpoint.url}, the embedded endpoint over {endpoint.backend}"


@contextmanager
def _named_by_environment(samples: list[Sample], out: TextIO) -> Iterator[str]:
    settings = Settings(os.environ)
    prefix = f"upstash-state-demo-{secrets.token_hex(4)}:"
    with (
        UpstashRedis(
            settings.url,
            settings.token,
            timeout=settings.timeout,
            allow_http=settings.allow_http,
        ) as client,
        _environment(UPSTASH_STATE_PREFIX=prefix),
    ):
        client.ping()
        try:
            yield f"{settings.url}, keys {prefix}*"
        finally:
            keys = [prefix + order_id for order_id in [DELETED, *(s.order_id for s in samples)]]
            for begin in range(0, len(keys), 1000):
                client.delete(*keys[begin : begin + 1000])
            print(f"Removed     all keys {prefix}*", file=out)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables for this process's one client, and for the second process."""
    variables |= {"UPSTASH_STATE_TTL": TTL, "UPSTASH_STATE_SKIP_UNCHANGED": "0"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    reset_client()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        reset_client()


def _save_and_restore(samples: list[Sample], out: TextIO) -> int:
    state: dict[str, Order] = {}
    with metered() as meter:
        if get_redis_client() is None:
            print("The demo cannot run: the database does not answer", file=out)
            return 1
        changes, unsaved = _take_orders_in(samples, state)
    print(
        f"Saving      process {os.getpid()} backed each of {changes} changes up; "
        f"its STATE holds {orders(len(state))}",
        file=out,
        flush=True,
    )
    child, findings = _second_process(state)
    if findings is None:
        print(f"Restoring   process {child} failed", file=out)
        return 1
    print(
        f"Restoring   process {child} began with an empty STATE and restored "
        f"{orders(findings['restored'])}",
        file=out,
    )
    different = unsaved + _read_otherwise(samples) + findings["differences"]
    plural = "" if len(different) == 1 else "s"
    verdict = f"{len(different)} difference{plural}" if different else "none differs"
    print(f"Comparing   {orders(len(state))}: {verdict}", file=out)
    for difference in different:
        print(f"            {printable(difference)}", file=out)
    _print_costs({"saving": meter.cost(), "restoring": Cost(*findings["cost"])}, out)
    return 1 if different else 0


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


def _read_otherwise(samples: list[Sample]) -> list[str]:
    # Not the other way round: an app may hold as text ("...Z") what comes back as a datetime.
    return [
        f"order {sample.order_id}'s stored text reads differently than the file says"
        for sample in samples
        if sample.stored is not None
        and repr(deserialize_order(sample.stored)) != repr(sample.order)
    ]


def _second_process(state: dict[str, Order]) -> tuple[int, demo_restore.Findings | None]:
    """Start it. The token goes in the environment: other users can read a process's arguments."""
    with subprocess.Popen(
        [sys.executable, "-m", demo_restore.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # Ctrl-C is this process's to handle: it ends the second one and cleans up.
        start_new_session=True,
    ) as process:
        try:
            answer, _ = process.communicate(
                "".join(to_text(*item) + "\n" for item in state.items())
            )
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        return process.pid, None
    findings: demo_restore.Findings = json.loads(answer)
    return process.pid, findings


def _print_costs(costs: dict[str, Cost], out: TextIO) -> None:
    titles = ("HTTP requests", "billed commands", "bytes sent", "bytes received")
    print(file=out)
    print("Cost        " + "".join(f"{title:>17}" for title in titles), file=out)
    for name, cost in costs.items():
        print(f"{name:12}" + "".join(f"{number:>17,}" for number in cost), file=out)
