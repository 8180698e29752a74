"""Recordings without pytest's plugin: a block of code, or a function."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from copy import copy
from functools import wraps
from logging import getLogger
from typing import Any, TypeVar, cast

from .explain import Options
from .match import Varying
from .recorder import Mode, Recording

log = getLogger("upstash_state")

_RUNNING_LATER = (
    *(inspect.isclass, inspect.isgeneratorfunction, inspect.isasyncgenfunction),
    *(inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine),
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class recording(AbstractContextManager[Recording]):
    """Replay or make a recording, for unittest and scripts.

    A context manager, and a decorator of functions and coroutine functions. On replay the
    environment holds a placeholder URL and token, and no socket is opened. A file being made is
    written only when the block ends without an exception; what it is made from are the credentials
    in the environment.

    Args:
        path: The recording's file.
        mode: "none" to replay only, "once" to record if there is no file, "all" to record anew.
        allow_unused: Whether recorded exchanges, and faults, may stay unused.
        varying: What differs from run to run in stored JSON and is compared by shape, as paths:
            `created_at`, `customer.id`, `status_history[].timestamp`. Answers that hold what was
            recorded for them get what was sent.
        varying_keys: Patterns of Redis keys with `*` for the part that differs: `order:*`.

    Raises:
        RecordingMismatchError: At the end, when what was sent and what is recorded do not fit.
            An exception that is already under way is not replaced; it gets a note.
        RecordingError: The file cannot be used, or not be made.
        TypeError: What is decorated is a class or a generator function.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "none",
        allow_unused: bool = False,
        varying: Iterable[str] = (),
        varying_keys: Iterable[str] = (),
    ) -> None:
        self._path, self._mode = path, mode
        self._options = Options(
            Varying.of(varying, varying_keys),
            allow_unused,
            again=f'    recording({str(path)!r}, mode="all")',
            declare=f"    recording({str(path)!r}, {{}})",
            without_database="LocalEndpoint of upstash_state.local, or `upstash-state serve`",
        )

    def __enter__(self) -> Recording:
        self._begun = Recording(self._path, self._mode, self._options)
        self._stack = ExitStack()
        self._stack.enter_context(self._begun.running())
        return self._begun

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stack.close()
        if error is None:
            if hint := self._begun.finish():
                log.warning(hint)
        elif (problem := self._begun.problem()) and hasattr(error, "add_note"):
            error.add_note(problem)

    def __call__(self, function: _Function) -> _Function:
        _refuse_what_runs_later(function, function)

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                return await function(*args, **kwargs)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                result = function(*args, **kwargs)
                # Its kind may have been hidden by another decorator.
                _refuse_what_runs_later(function, result)
                return result

        return cast(_Function, awaited if inspect.iscoroutinefunction(function) else called)


def _refuse_what_runs_later(function: Callable[..., Any], value: object) -> None:
    if any(kind(value) for kind in _RUNNING_LATER):
        raise TypeError(
            f"what {function.__qualname__} does is done after the recording has ended: decorate "
            "functions or coroutine functions, or write `with recording(…):` inside them"
        )
