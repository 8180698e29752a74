"""The demo's second process: an empty STATE, restored and compared with the saved orders.

The database's URL and token come in the environment, as for any app, and the saved orders on
standard input.
"""

import os
import pickle
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pprint import pformat
from typing import Any

from upstash_state import redis_get_all_orders, redis_get_order_count
from upstash_state.cli.meter import metered
from upstash_state.cli.terminal import orders, printable

Order = dict[str, Any]


def differences(saved: dict[str, Order], restored: dict[str, Order]) -> Iterator[str]:
    """Yield a sentence for each order that is not as it was saved."""
    for order_id in saved | restored:
        if order_id not in restored:
            yield f"order {order_id} was not restored"
        elif order_id not in saved:
            yield f"order {order_id} was restored, but not saved"
        else:
            # Texts, since for Python 1, 1.0 and True are equal. A line for each value.
            sides = (pformat(side[order_id], width=1) for side in (saved, restored))
            for before, after in zip_longest(*map(str.splitlines, sides), fillvalue="nothing"):
                if before != after:
                    one, other = (line.strip()[:100] for line in (before, after))
                    yield f"order {order_id}: saved {one}, restored {other}"
                    break


def main() -> int:
    """Restore, compare, print the result. Returns the exit status."""
    saved: dict[str, Order] = pickle.load(sys.stdin.buffer)
    with metered() as cost:
        state = redis_get_all_orders()
    began = f"process {os.getpid()} began with an empty STATE and restored {orders(len(state))}"
    print(f"Restoring   {began}\n            {cost}")
    different = list(differences(saved, state))
    if (counted := redis_get_order_count()) != len(saved):
        different.append(f"{len(saved)} orders were saved, {counted} counted")
    verdict = f"{len(different)} different" if different else "none differs"
    print(f"Comparing   {orders(len(saved))}: {verdict}")
    for difference in different:
        print(f"            {printable(difference)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
