"""Recordings without pytest's plugin: a block of code, or a function."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from copy import copy
from functools import wraps
from logging import getLogger
from typing import Any, TypeVar, cast

from .match import Varying
from .recorder import Mode, Recording

log = getLogger("upstash_state")

_RUNNING_LATER = (
    *(inspect.isclass, inspect.isgeneratorfunction, inspect.isasyncgenfunction),
    *(inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine),
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class recording(Recording):
    """Replay a recording or make one, for unittest and scripts.

    A context manager, and a decorator of functions and coroutine functions. During a replay the
    environment has a placeholder URL and token, and no socket is opened. To record, the environment
    must name a database. The file is written only if the block ends without an exception, and no
    subtest of unittest failed in it.

    Args:
        path: The recording's file.
        mode: "none" to replay only, "once" to record if there is no file, "all" to record again.
        allow_unused: Whether recorded exchanges, and faults, may stay unused.
        varying: Values in stored JSON that differ from run to run and are compared by their kind,
            as paths: `created_at`, `customer.id`, `status_history[].timestamp`. Answers return the
            values of this run.
        varying_keys: Patterns of Redis keys with `*` for the part that differs: `order:*`.

    Raises:
        RecordingMismatchError: At the end, if the requests do not fit the recorded ones. An
            exception of the block is not replaced; it gets a note.
        RecordingError: The file cannot be used, or cannot be written.
        TypeError: A class or a generator function is decorated.
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
        how = f'    recording({str(path)!r}, mode="all")', f"    recording({str(path)!r}, {{}})"
        super().__init__(path, mode, Varying.of(varying, varying_keys), allow_unused, how)

    def __enter__(self) -> recording:
        self._stack = ExitStack()
        self._stack.enter_context(self.running())
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stack.close()
        if error is not None:
            if (problem := self.problem(failed=True)) and hasattr(error, "add_note"):
                error.add_note(problem)
        elif _a_subtest_failed() and not self.replays:
            log.warning("%s is not written, because a subtest failed", self.name)
        else:
            said, *hints = self.finish() or [""]
            log.info(said)
            for hint in hints:
                log.warning(hint)

    def __call__(self, function: _Function) -> _Function:
        _refuse_if_running_later(function, function)

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                return await function(*args, **kwargs)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                result = function(*args, **kwargs)
                # Another decorator may have hidden what kind of function this is.
                _refuse_if_running_later(function, result)
                return result

        return cast(_Function, awaited if inspect.iscoroutinefunction(function) else called)


def _refuse_if_running_later(function: Callable[..., Any], value: object) -> None:
    if any(kind(value) for kind in _RUNNING_LATER):
        raise TypeError(
            f"{function.__qualname__} would run after the recording has ended: decorate functions "
            "or coroutine functions, or write `with recording(…):` inside them"
        )


def _a_subtest_failed() -> bool:
    """Return whether a subtest failed in the unittest test that is running, if one is."""
    unittest, frame = sys.modules.get("unittest"), sys._getframe()
    while unittest and (frame := frame.f_back):  # type: ignore[assignment]
        case: Any = frame.f_locals.get("self")
        if issubclass(type(case), unittest.TestCase):
            # unittest keeps a subtest's exception here until the test has ended.
            return not getattr(getattr(case, "_outcome", None), "success", True)
    return False
