"""Pipeline: many commands in one request, each with a result or an error of its own."""

from __future__ import annotations

from . import commands
from .errors import AnswerError, ResponseError, UpstashError
from .transport import PIPELINE, TRANSACTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from types import TracebackType
    from typing import Any

    from .commands import Argument, Command
    from .transport import Transport


class Pipeline:
    """Commands that are collected, and sent in one request by `execute`.

    Each is billed like one sent alone. Every method but `execute` returns the pipeline itself, so
    that calls can be chained.
    """

    def __init__(self, transport: Transport, *, transaction: bool) -> None:
        self._transport = transport
        self._path = TRANSACTION if transaction else PIPELINE
        self._commands: list[Command[Any]] = []

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self)} commands>"

    def __len__(self) -> int:
        return len(self._commands)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the commands collected so far."""
        self._commands = []

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands, and begin anew.

        Args:
            raise_on_error: Whether to raise the first error of a command. The others have been
                run all the same.

        Returns:
            Each command's result in its place, and with `raise_on_error=False` the `UpstashError`
            of each that failed in its place.

        Raises:
            ResponseError: A command was refused, or the request as a whole.
            UnavailableError: The endpoint could not be reached or did not work.
        """
        batch, self._commands = self._commands, []
        if not batch:
            return []
        answers = self._transport.run_many(
            self._path,
            [command.args for command in batch],
            repeatable=all(command.repeatable for command in batch),
        )
        results = []
        for number, (command, answer) in enumerate(zip(batch, answers), 1):
            result = answer if isinstance(answer, ResponseError) else _read(command, answer)
            if raise_on_error and isinstance(result, UpstashError):
                raise type(result)(f"command {number} ({command.args[0]}): {result}")
            results.append(result)
        return results

    def execute_command(self, *args: Argument) -> Pipeline:
        """Add any command."""
        return self._add(commands.any_command(*args))

    def ping(self) -> Pipeline:
        """Add a PING."""
        return self._add(commands.ping())

    def set(
        self,
        name: Argument,
        value: Argument,
        ex: int | timedelta | None = None,
        px: int | timedelta | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> Pipeline:
        """Add a SET; arguments as for `UpstashRedis.set`."""
        return self._add(commands.set_(name, value, ex, px, nx, xx))

    def get(self, name: Argument) -> Pipeline:
        """Add a GET."""
        return self._add(commands.get(name))

    def mget(self, keys: Argument | Iterable[Argument], *args: Argument) -> Pipeline:
        """Add an MGET."""
        return self._add(commands.mget(keys, *args))

    def delete(self, *names: Argument) -> Pipeline:
        """Add a DEL."""
        return self._add(commands.delete(*names))

    def exists(self, *names: Argument) -> Pipeline:
        """Add an EXISTS."""
        return self._add(commands.exists(*names))

    def expire(self, name: Argument, time: int | timedelta) -> Pipeline:
        """Add an EXPIRE."""
        return self._add(commands.expire(name, time))

    def ttl(self, name: Argument) -> Pipeline:
        """Add a TTL."""
        return self._add(commands.ttl(name))

    def keys(self, pattern: Argument = "*") -> Pipeline:
        """Add a KEYS."""
        return self._add(commands.keys(pattern))

    def scan(
        self,
        cursor: int = 0,
        match: Argument | None = None,
        count: int | None = None,
        _type: str | None = None,
    ) -> Pipeline:
        """Add a SCAN; arguments as for `UpstashRedis.scan`."""
        return self._add(commands.scan(cursor, match, count, _type))

    def dbsize(self) -> Pipeline:
        """Add a DBSIZE."""
        return self._add(commands.dbsize())

    def _add(self, command: Command[Any]) -> Pipeline:
        self._commands.append(command)
        return self


def _read(command: Command[Any], answer: Any) -> Any:
    try:
        return command.read(answer)
    except AnswerError as error:
        return error
