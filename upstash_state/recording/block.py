"""Recordings without pytest's plugin: a block of code, or a function."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from logging import getLogger
from typing import Any, TypeVar, cast

from .explain import Advice
from .match import Varying
from .recorder import Mode, Recording

log = getLogger("upstash_state")

_KINDS_THAT_RUN_LATER = (inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine)
_RUNS_LATER = (
    "the body of {} runs after the recording has ended: write `with recording(…):` inside it, or "
    "decorate the coroutine function itself"
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class RecordingBlock(AbstractContextManager[Recording]):
    """A context manager, and a decorator of functions and coroutine functions."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Recording]]) -> None:
        self._begin = begin

    def __enter__(self) -> Recording:
        self._begun = self._begin()
        return self._begun.__enter__()

    def __exit__(self, *exc: Any) -> bool | None:
        return self._begun.__exit__(*exc)

    def __call__(self, function: _Function) -> _Function:
        if inspect.isclass(function):
            raise TypeError("recording cannot decorate a class: decorate each of its tests")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(_RUNS_LATER.format(function.__qualname__))

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with self._begin():
                return await function(*args, **kwargs)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._begin():
                result = function(*args, **kwargs)
                # Of a function whose kind was hidden by another decorator.
                if any(kind(result) for kind in _KINDS_THAT_RUN_LATER):
                    raise TypeError(_RUNS_LATER.format(function.__qualname__))
                return result

        return cast(_Function, awaited if inspect.iscoroutinefunction(function) else called)


def recording(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "none",
    allow_unused: bool = False,
    varying: Iterable[str] = (),
    varying_keys: Iterable[str] = (),
) -> RecordingBlock:
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

    Returns:
        What gives, on entering, the recording, for its `fail_next`.

    Raises:
        RecordingMismatchError: At the end, when what was sent and what is recorded do not fit.
            An exception that is already under way is not replaced; it gets a note.
        RecordingError: The file cannot be used, or not be made.
        TypeError: What is decorated is a class or a generator function.
    """
    advice = Advice(
        again=f'    recording({str(path)!r}, mode="all")',
        declare=f"    recording({str(path)!r}, {{}})",
        without_database="LocalEndpoint of upstash_state.local, or `upstash-state serve`",
    )
    declared = Varying.of(varying, varying_keys)
    return RecordingBlock(lambda: _running(Recording(path, mode, declared, allow_unused, advice)))


@contextmanager
def _running(begun: Recording) -> Iterator[Recording]:
    with begun.running():
        try:
            yield begun
        except Exception as error:
            if (problem := begun.problem()) and hasattr(error, "add_note"):
                error.add_note(problem)
            raise
    if hint := begun.finish():
        log.warning(hint)
