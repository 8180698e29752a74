"""Pipeline: many commands in one request, with a result or an error for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from . import commands
from .commands import Command
from .errors import UpstashError
from .transport import PIPELINE, TRANSACTION, Transport

P = ParamSpec("P")


def _added(command: Callable[P, Command[Any]]) -> Callable[Concatenate[Pipeline, P], Pipeline]:
    """Return the pipeline's method that adds a command."""

    def method(self: Pipeline, /, *args: P.args, **kwargs: P.kwargs) -> Pipeline:
        self._commands.append(command(*args, **kwargs))
        return self

    return commands.as_method(command, method, "Pipeline")


class Pipeline:
    """Collects commands, and sends them in one request.

    Each command is billed as if it were sent alone. Its method returns the pipeline, so that calls
    can be chained; `execute` returns the result that the method's docstring describes.
    """

    def __init__(self, transport: Transport, *, transaction: bool) -> None:
        self._transport = transport
        self._path = TRANSACTION if transaction else PIPELINE
        self._commands: list[Command[Any]] = []

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self)} commands>"

    def __bool__(self) -> bool:
        # As in redis-py, so that `pipe or client` is the pipeline, even if it is empty.
        return True

    def __len__(self) -> int:
        return len(self._commands)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *error: object) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop the commands collected so far."""
        self._commands = []

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands, and empty the pipeline.

        Args:
            raise_on_error: Whether to raise the first error of a command. The other commands are
                still executed.

        Returns:
            The result of each command, or with `raise_on_error=False` its `UpstashError`.

        Raises:
            ResponseError: The endpoint refused a command, or the whole request.
            UnavailableError: The endpoint could not be reached or did not work.
        """
        batch, self._commands = self._commands, []
        if not batch:
            return []
        results = self._transport.exchange(batch, path=self._path).results
        for number, (command, result) in enumerate(zip(batch, results), 1):
            if raise_on_error and isinstance(result, UpstashError):
                error = type(result)(f"command {number} ({command.args[0]}): {result}")
                error.may_have_executed = result.may_have_executed
                raise error
        return results

    execute_command = _added(commands.execute_command)
    ping = _added(commands.ping)
    set = _added(commands.set)
    msetex = _added(commands.msetex)
    get = _added(commands.get)
    mget = _added(commands.mget)
    delete = _added(commands.delete)
    exists = _added(commands.exists)
    expire = _added(commands.expire)
    ttl = _added(commands.ttl)
    pttl = _added(commands.pttl)
    keys = _added(commands.keys)
    scan = _added(commands.scan)
    dbsize = _added(commands.dbsize)
