"""The orders that the contenders save."""

from __future__ import annotations

from itertools import count

from upstash_state import deserialize_order

from .contenders import Orders
from .stub import stored_orders


class State:
    """An app's orders in memory, and their changes."""

    def __init__(self, size: int) -> None:
        texts = stored_orders()
        self.orders: Orders = {
            str(number): deserialize_order(texts[number % len(texts)]) for number in range(size)
        }
        self._turns = count()

    def changed(self) -> tuple[str, Orders]:
        """Change one order. Return its id, and all orders."""
        turn = next(self._turns)
        order_id = str(turn % len(self.orders))
        self.orders[order_id] = {**self.orders[order_id], "note": f"change {turn:06}"}
        return order_id, self.orders
