"""Attempts that were given up and may still arrive, for those who must know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_given_up: ContextVar[list[None] | None] = ContextVar("upstash_state_given_up", default=None)


@contextmanager
def late_attempts() -> Iterator[list[None]]:
    """Watch the exchanges that this thread makes inside the block.

    Yields:
        A list that is not empty once an attempt was given up whose request may still be executed,
        although a later attempt succeeded.
    """
    outer, mine = _given_up.get(), list[None]()
    _given_up.set(mine)
    try:
        yield mine
    finally:
        _given_up.set(outer)


def attempt_given_up() -> None:
    """Note that an attempt of this thread may still be executed."""
    watcher = _given_up.get()
    if watcher is not None:
        watcher.append(None)
