"""The demo's second process: an empty STATE, restored and compared with what was saved.

Run as `python -m upstash_state.tool.demo_restore`. The database's address and token come in the
environment, as for any app; what was saved comes on standard input, a line for each order; what was
found goes to standard output as one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TypedDict

from upstash_state import redis_get_all_orders, redis_get_order, redis_get_order_count
from upstash_state.tool.demo_meter import metered
from upstash_state.tool.demo_orders import Order, from_text


class Findings(TypedDict):
    """What came out.

    Attributes:
        restored: How many orders STATE holds after the restore.
        differences: What is not as it was saved, a sentence each.
        cost: The numbers of the restore's `Cost`.
    """

    restored: int
    differences: list[str]
    cost: list[int]


def restore_and_compare(saved: Mapping[str, Order]) -> Findings:
    """Restore all orders, and name each that is not as it was saved."""
    with metered() as meter:
        state = redis_get_all_orders()
    count = redis_get_order_count()
    one = next(iter(saved))
    alone = redis_get_order(one)
    differences = list(_differences(saved, state))
    if count != len(saved):
        differences.append(f"{len(saved)} orders were saved, {count} counted")
    difference = _difference(saved[one], alone, "")
    if difference is not None and not differences:
        differences.append(f"order {one}, read alone{difference}")
    return {"restored": len(state), "differences": differences, "cost": list(meter.cost())}


def _differences(saved: Mapping[str, Order], restored: Mapping[str, Order]) -> list[str]:
    differences = []
    for order_id, order in saved.items():
        if order_id not in restored:
            differences.append(f"order {order_id} was not restored")
            continue
        difference = _difference(order, restored[order_id], "")
        if difference is not None:
            differences.append(f"order {order_id}{difference}")
    for order_id in restored.keys() - saved.keys():
        differences.append(f"order {order_id} was restored, but not saved")
    return differences


def _difference(saved: Any, restored: Any, path: str) -> str | None:
    """The first place where two values differ, also where Python calls them equal (1 and True)."""
    if isinstance(saved, dict) and isinstance(restored, dict) and saved.keys() == restored.keys():
        steps = [(f", {key}" if not path else f".{key}", key) for key in saved]
    elif isinstance(saved, list) and isinstance(restored, list) and len(saved) == len(restored):
        steps = [(f"[{index}]", index) for index in range(len(saved))]
    elif repr(saved) == repr(restored):
        return None
    else:
        return f"{path}: saved {_short(saved)}, restored {_short(restored)}"
    for step, key in steps:
        difference = _difference(saved[key], restored[key], path + step)
        if difference is not None:
            return difference
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _main() -> None:
    findings = restore_and_compare(dict(map(from_text, sys.stdin)))
    json.dump(findings, sys.stdout)


if __name__ == "__main__":
    _main()
