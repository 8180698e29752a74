"""The deliveries of this process: one outbox for each database. Exit, fork and reset."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING

from .transport import deadline_within, time_budget

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .delivery import Delivery

#: The deliveries of this process by database (URL, token and prefix), one for each outbox. A fork
#: and a reset replace it with a new dict.
deliveries: dict[Hashable, Delivery] = {}
_ending = threading.Event()
#: Event loops whose app has shut down. Some servers then end the process with a signal, before a
#: worker or an exit handler can send anything. So until the loop is closed, each call sends its own
#: saves.
shut_down: list[AbstractEventLoop] = []


def is_ending() -> bool:
    """Return whether each call must send its own saves, because no worker may be able to."""
    return _ending.is_set() or not all(loop.is_closed() for loop in tuple(shut_down))


def register(database: Hashable, delivery: Delivery) -> Delivery:
    """Register a delivery for a database, and return the one that was registered first."""
    if not deliveries:
        # A child of `multiprocessing` does not run `atexit` functions, and a forked child does not
        # inherit its parent's finalizers.
        process = sys.modules.get("multiprocessing.process")
        util = sys.modules.get("multiprocessing.util")
        if process and util and process.parent_process() is not None:
            util.Finalize(None, end_of_process, exitpriority=0)
        # A child of Celery's prefork pool does not run them either.
        signal = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if signal is not None:
            signal.connect(end_of_process, weak=False)
    found, current = delivery, None
    while current is not deliveries:
        # Repeat if another thread has reset the client meanwhile.
        current = deliveries
        found = current.setdefault(database, delivery)
    return found


def end_of_process(**_: object) -> None:
    """Send all pending writes. From now on, each call sends its own saves.

    Celery passes arguments, which are not used.
    """
    _ending.set()
    _each(deliveries, lambda delivery: delivery.close("at exit"))


def end_of_app() -> None:
    """Send all pending writes when an app shuts down, and log the orders that are left."""
    _each(deliveries, lambda delivery: delivery.send_all("at shutdown"))


def forget_all(*, flush: bool) -> None:
    """Give every database an empty outbox.

    Args:
        flush: Whether to send pending writes first, and to log the orders that are left.
    """
    global deliveries
    with time_budget(_longest_timeout(deliveries)):
        if flush:
            # Saves still use the old outbox, so a later save of an order is sent after these.
            _each(deliveries, lambda delivery: delivery.flush(once=True))
        # From here on, saves use a new outbox, so no save is lost.
        old, deliveries = deliveries, {}
        shut_down.clear()
        for delivery in old.values():
            # A save that is using the old outbox must send itself, because the worker stops.
            delivery.outbox.closed = True
            if not flush:
                delivery.outbox.forget(delivery.outbox.all_pending())
        if flush:
            _each(old, lambda delivery: delivery.close("before the reset"))


def _each(some: Mapping[Hashable, Delivery], send: Callable[[Delivery], object]) -> None:
    """Let each delivery send, all together within the time of one call."""
    waiting = list(some.values())
    deadline = deadline_within(_longest_timeout(some))
    interruption: BaseException | None = None
    while waiting:
        # Each database gets an equal share of the time, so one that hangs leaves time to the
        # others. After Ctrl-C, the others only log what is left.
        share = 0.0 if interruption else (deadline - time.monotonic()) / len(waiting)
        try:
            with time_budget(share):
                send(waiting.pop(0))
        except Exception:
            # An error, such as one of a log handler, must not stop the other databases.
            continue
        except BaseException as error:
            interruption = error
    if interruption is not None:
        raise interruption


def _longest_timeout(some: Mapping[Hashable, Delivery]) -> float:
    return max((delivery.client.timeout for delivery in some.values()), default=0.0)


def _forget_parent() -> None:
    global deliveries
    # The parent sends its own pending writes, so the child must not.
    deliveries = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
