"""The process's one store: made on first use, tested with PING, kept until it is reset."""

from __future__ import annotations

import os
from contextlib import contextmanager
from logging import getLogger
from threading import Lock
from time import monotonic

from .errors import (
    CircuitOpenError,
    MissingCredentialsError,
    NotConnectedError,
    SettingsError,
    UpstashError,
)
from .store import OrderStore
from .transport import deadline_within, time_budget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

log = getLogger("upstash_state")


class Shared:
    """One store for all threads. Nothing is read or opened before the first use."""

    def __init__(self) -> None:
        self._complaint: str | None = None
        self._store: OrderStore | None = None
        self._tested = False
        self._tests_failed = 0
        self._last_failure: UpstashError | None = None
        self.renew_locks()

    def renew_locks(self) -> None:
        """Give a forked child locks that no thread of its parent holds."""
        self._making = Lock()
        self._testing = Lock()

    @contextmanager
    def call(self) -> Iterator[OrderStore]:
        """The tested store, for one call: the test, if it is due, and all that the block does
        share one time budget.

        Raises:
            SettingsError: The environment names no database, or not a usable one.
            NotConnectedError: The test failed.
            CircuitOpenError: The endpoint is left alone for now.
        """
        store = self._made()
        with time_budget(store.client.timeout):
            self._test(store)
            yield store

    def store(self) -> OrderStore:
        """The tested store, for work whose every exchange has a time budget of its own."""
        with self.call() as store:
            return store

    def reset(self) -> None:
        """Forget the store, and what has been complained about."""
        with self._making:
            store = self._store
            self._store = None
            self._tested = False
            self._complaint = None
        if store is not None:
            store.client.close()

    def _made(self) -> OrderStore:
        # Read once: a reset may come in between.
        store = self._store
        if store is not None:
            return store
        with self._making:
            if self._store is None:
                self._store = self._make()
            return self._store

    def _make(self) -> OrderStore:
        try:
            return OrderStore.from_env()
        except MissingCredentialsError:
            self._complain("Redis credentials not found - persistence disabled")
            raise
        except SettingsError as error:
            self._complain(f"{error} - persistence disabled")
            raise

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning(complaint)

    def _test(self, store: OrderStore) -> None:
        if self._tested:
            return
        failed_before = self._tests_failed
        left = deadline_within(store.client.timeout) - monotonic()
        if not self._testing.acquire(timeout=max(left, 0)):
            raise NotConnectedError("the first connection was not made within the time budget")
        try:
            if self._tested:
                return
            if self._tests_failed != failed_before:
                # Another thread has asked while this one waited; asking once more would make
                # each waiting thread wait longer than the one before.
                raise NotConnectedError(str(self._last_failure)) from self._last_failure
            try:
                store.client.ping()
            except CircuitOpenError:
                raise
            except UpstashError as error:
                self._tests_failed += 1
                self._last_failure = error
                raise NotConnectedError(str(error)) from error
            self._tested = store is self._store
            log.info("Redis connection established")
        finally:
            self._testing.release()


shared = Shared()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.renew_locks)


def reset_client() -> None:
    """Forget the process's client, close its connections, and read the environment anew at the
    next use. For tests, and after the credentials have changed."""
    shared.reset()
