"""The demo's second process: an empty STATE, restored and compared with what was saved.

The database's address and token come in the environment, as for any app; what was saved comes on
standard input.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator

from upstash_state import redis_get_all_orders, redis_get_order_count
from upstash_state.cli.demo.meter import metered
from upstash_state.cli.demo.orders import Order
from upstash_state.cli.terminal import fit, orders, printable

#: The exit status when something is not as it was saved.
DIFFERENT = 3


def differences(saved: dict[str, Order], restored: dict[str, Order]) -> Iterator[str]:
    """What is not as it was saved, a sentence each."""
    for order_id in saved | restored:
        if order_id not in restored:
            yield f"order {order_id} was not restored"
            continue
        if order_id not in saved:
            yield f"order {order_id} was restored, but not saved"
            continue
        before, after = (dict(_leaves(side[order_id], "")) for side in (saved, restored))
        # Their texts, since for Python 1, 1.0 and True are equal.
        for path in before | after:
            one, other = (fit(leaves.get(path, "nothing"), 100) for leaves in (before, after))
            if before.get(path) != after.get(path):
                yield f"order {order_id}{path}: saved {one}, restored {other}"
                break


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Each value in a value that is not itself a list or dict with members, by its path."""
    if value and isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, f"{path}.{key}" if path else f", {key}")
    elif value and isinstance(value, list):
        for index, member in enumerate(value):
            yield from _leaves(member, f"{path}[{index}]")
    else:
        yield path, repr(value)


def main() -> int:
    """Restore, compare, print what was found. Returns the exit status."""
    saved: dict[str, Order] = pickle.load(sys.stdin.buffer)
    with metered() as cost:
        state = redis_get_all_orders()
    print(
        f"Restoring   process {os.getpid()} began with an empty STATE and restored "
        f"{orders(len(state))}\n            {cost}"
    )
    different = list(differences(saved, state))
    counted = redis_get_order_count()
    if counted != len(saved):
        different.append(f"{len(saved)} orders were saved, {counted} counted")
    plural = "" if len(different) == 1 else "s"
    verdict = f"{len(different)} difference{plural}" if different else "none differs"
    print(f"Comparing   {orders(len(saved))}: {verdict}")
    for difference in different:
        print(f"            {printable(difference)}")
    return DIFFERENT if different else 0
