"""The process's one store: made on first use, and kept until it is reset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from .client import UpstashRedis
from .errors import (
    AuthenticationError,
    MissingCredentialsError,
    NoPermissionError,
    SettingsError,
    UnavailableError,
)
from .saver import forget_all
from .settings import DOCTOR, TOKEN_ADVICE, Settings, own_variables
from .store import OrderStore
from .transport import time_budget

log = getLogger("upstash_state")

DISABLED = "persistence disabled: orders are not backed up"


class Process:
    """One store for all threads. Nothing is read or opened before the first use.

    Without locks, which a logging or signal handler that saves would wait for in vain: what is
    stored at most once is stored by `dict.setdefault`.
    """

    def __init__(self) -> None:
        self._made: dict[str, OrderStore] = {}
        self._said: dict[str, object] = {}
        self._tested: OrderStore | None = None

    def store(self) -> OrderStore:
        """The store, for work whose every exchange has a time budget of its own.

        Raises:
            SettingsError: The environment names no database, or not a usable one.
        """
        store = self._made.get("store")
        return store or self._made.setdefault("store", self._make())

    @contextmanager
    def call(self) -> Iterator[OrderStore]:
        """The store, for one call: all that the block does shares one time budget.

        Raises:
            SettingsError: The environment names no database, or not a usable one.
        """
        store = self.store()
        with time_budget(store.client.timeout):
            yield store

    def client(self) -> UpstashRedis:
        """The store's client, tested with PING.

        Raises:
            UpstashError: The test failed.
        """
        with self.call() as store:
            if self._tested is not store:
                store.ping()
                self._tested = store
            return store.client

    def reset(self, *, flush: bool) -> None:
        """Forget the store, what is owed, and what has been complained about."""
        forget_all("before the reset", flush=flush)
        store = self._made.pop("store", None)
        self._tested = None
        self._said.clear()
        if store is not None:
            store.client.close()

    def advice(self, error: BaseException | None) -> str:
        """What to add to the log line of an error that somebody must act on; once, then nothing."""
        if isinstance(error, AuthenticationError):
            text = f" - {TOKEN_ADVICE}. {DOCTOR}"
        elif isinstance(error, NoPermissionError) or (
            isinstance(error, UnavailableError) and not error.transient
        ):
            text = f". {DOCTOR}"
        else:
            return ""
        return text if self._is_first("advice") else ""

    def _make(self) -> OrderStore:
        try:
            settings = Settings(own_variables(None))
        except MissingCredentialsError as error:
            self._complain(f"Redis credentials not found - {DISABLED}. {error}. {DOCTOR}")
            raise
        except SettingsError as error:
            self._complain(f"{error} - {DISABLED}. {DOCTOR}")
            raise
        for complaint in settings.complaints:
            self._complain(complaint)
        return OrderStore.from_settings(settings)

    def _complain(self, complaint: str) -> None:
        if self._is_first(complaint):
            log.warning(complaint)

    def _is_first(self, said: str) -> bool:
        mine = object()
        return self._said.setdefault(said, mine) is mine


process = Process()


def reset_client(*, flush: bool = True) -> None:
    """Forget the process's client and what is owed, and read the environment anew at the next use.

    For tests, and after the credentials have changed.

    Args:
        flush: Whether to try first to send what is owed, within the time of one call. What is then
            left is named in the log, and forgotten. Without it, all is forgotten without a word.
    """
    process.reset(flush=flush)
