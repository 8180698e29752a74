"""Log failures: one message template for each kind, and advice only once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from logging import DEBUG, ERROR, LoggerAdapter, getLogger
from types import TracebackType
from typing import Any

from .errors import (
    AuthenticationError,
    NoPermissionError,
    RestoreError,
    SettingsError,
    UnavailableError,
    UpstashError,
)
from .serialization import shown_order_id
from .settings import DOCTOR, TOKEN_ADVICE
from .texts import LONGEST, shown, text_of, type_name


class _Log(LoggerAdapter):  # type: ignore[type-arg]
    """The package's logger. A log handler or filter that raises does not make a call fail."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        with suppress(Exception):
            self.logger.log(level, msg, *args, **kwargs)


log = _Log(getLogger("upstash_state"), {})

# The largest number of ids in one line.
NAMED = 20

# A log handler may save its records as orders. If such a save fails, this is logged too, so the
# handler saves again. This limit ends the chain.
DEEPEST = 1

_nested: ContextVar[int] = ContextVar("upstash_state_nested_failures", default=0)
_said: dict[str, object] = {}


class logged:
    """Log the exceptions that are raised inside the block, instead of raising them.

        with logged("Failed to get all orders from Redis: %s", "redis_get_all_orders"):
            return process.store().get_all()
        return {}

    KeyboardInterrupt and SystemExit pass.

    Args:
        template: The message, with a `%s` for the order's id, if one is given, and for the cause.
        operation: The function that failed, for the record's `operation`.
        order_id: The order's id, for the record's `order_id`.
    """

    __slots__ = ("_operation", "_order_id", "_template")

    def __init__(self, template: str, operation: str, *order_id: object) -> None:
        self._template, self._operation, self._order_id = template, operation, order_id

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        ids = [shown_order_id(order_id) for order_id in self._order_id]
        order_id = ids[0] if ids else None
        log_failure(error, self._template, *ids, operation=self._operation, order_id=order_id)
        return True


def log_failure(
    error: Exception,
    template: str,
    *args: object,
    operation: str,
    order_id: object = None,
    affected: str = "",
) -> None:
    """Log that an operation failed.

    Args:
        error: Why it failed.
        template: The message, with a `%s` for each argument and one for the cause.
        args: The arguments.
        operation: The function, for the record's `operation`.
        order_id: The order's id, for the record's `order_id`.
        affected: Text to add after the cause.
    """
    cause = error.__cause__ if isinstance(error, RestoreError) else error
    # Bad settings and an open circuit have already been logged once. A failed restore is an error
    # even so, because the app starts without its orders.
    quiet = isinstance(cause, SettingsError) or (
        isinstance(cause, UnavailableError)
        and cause.reported
        and operation != "redis_get_all_orders"
    )
    depth = _nested.get()
    if depth > DEEPEST:
        return
    # In a copy of the context, so that an interruption cannot leave the depth raised.
    context = copy_context()
    context.run(_nested.set, depth + 1)
    context.run(
        log.log,
        DEBUG if quiet else ERROR,
        template,
        *args,
        f"{_line(error)}{affected}{'' if quiet else _advice(cause)}",
        extra={"operation": operation, "order_id": order_id},
        exc_info=_unexpected(error),
    )


def log_unsaved(failed: Mapping[str, UpstashError], *, deleted: bool = False) -> None:
    """Log why orders could not be saved or deleted, with one line for each cause.

    Args:
        failed: The errors by order id.
        deleted: Whether the orders should have been deleted, not saved.
    """
    operation, template = (
        ("redis_delete_order", "Failed to delete %s from Redis: %s")
        if deleted
        else ("redis_save_orders", "Failed to save %s to Redis: %s")
    )
    by_cause: dict[str, list[str]] = {}
    for order_id, error in failed.items():
        by_cause.setdefault(str(error), []).append(order_id)
    for ids in by_cause.values():
        one = len(ids) == 1
        log_failure(
            failed[ids[0]],
            template,
            f"order {shown_order_id(ids[0])}" if one else plural(len(ids)),
            operation=operation,
            order_id=shown_order_id(ids[0]) if one else None,
            affected="" if one else f" ({named(ids)})",
        )


def complain(text: str) -> None:
    """Log a warning, unless it was logged since the last call of `forget`."""
    if _is_first(text):
        log.warning("%s", text)


def forget() -> None:
    """Forget which warnings and which advice were logged, so that they can be logged again."""
    _said.clear()


def named(ids: list[str]) -> str:
    """Return order ids for a log line: the first twenty, and how many more there are."""
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(map(shown_order_id, ids[:NAMED])) + more


def plural(count: int, noun: str = "order") -> str:
    """Return a count with its noun, such as "1 order" or "2 orders"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _advice(error: BaseException | None) -> str:
    if isinstance(error, AuthenticationError):
        text = f" - {TOKEN_ADVICE}. {DOCTOR}"
    elif isinstance(error, NoPermissionError) or (
        isinstance(error, UnavailableError) and not error.transient
    ):
        text = f". {DOCTOR}"
    else:
        return ""
    return text if _is_first("advice") else ""


def _is_first(said: str) -> bool:
    # No lock: a log handler that saves would wait for it.
    mine = object()
    return _said.setdefault(said, mine) is mine


def _line(error: Exception) -> str:
    # The order's own code may raise the exception, with any text.
    return shown(text_of(error) or type_name(error), 2 * LONGEST)


def _unexpected(error: Exception) -> BaseException | None:
    """Return the exception to log with its traceback: a fault in the package or around it."""
    if isinstance(error, UnavailableError) and error.reason == "local":
        return error.__cause__
    return None if isinstance(error, UpstashError) else error
