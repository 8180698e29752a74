"""The process's store: created on first use, flushed at exit, empty after a fork or a reset."""

from __future__ import annotations

import atexit

from . import logs
from .client import UpstashRedis
from .errors import MissingCredentialsError, SettingsError
from .registry import end_of_process, forget_all
from .settings import DOCTOR, Settings, own_variables
from .store import OrderStore

DISABLED = "persistence disabled: orders are not backed up"

# No lock: a log or signal handler that saves would wait for it. `dict.setdefault` stores at most
# one store.
_stores: dict[str, OrderStore] = {}
_tested: list[OrderStore] = []


def store() -> OrderStore:
    """Return the store that the functions use. The first call reads the environment.

    Raises:
        SettingsError: The URL or the token is not set, or cannot be used.
    """
    return _stores.get("store") or _stores.setdefault("store", _make())


def client() -> UpstashRedis:
    """Return the store's client, tested with PING once.

    Raises:
        UpstashError: The test failed.
    """
    current = store()
    if current not in _tested:
        current.ping()
        _tested.append(current)
    return current.client


def reset_client(*, flush: bool = True) -> None:
    """Forget the process's client and its pending writes. The next call reads the environment.

    Call it in tests, and after the credentials have changed.

    Args:
        flush: Whether to send pending writes first, within the time of one call; the log names
            those that are left. If False, they are dropped without a log line.
    """
    old = _stores.pop("store", None)
    _tested.clear()
    logs.forget()
    forget_all(flush=flush)
    if old is not None:
        old.client.close()


def _make() -> OrderStore:
    try:
        settings = Settings(own_variables(None))
    except MissingCredentialsError as error:
        logs.complain(f"Redis credentials not found - {DISABLED}. {error}. {DOCTOR}")
        raise
    except SettingsError as error:
        logs.complain(f"{error} - {DISABLED}. {DOCTOR}")
        raise
    for complaint in settings.complaints:
        logs.complain(complaint)
    return OrderStore.from_settings(settings)


atexit.register(end_of_process)
