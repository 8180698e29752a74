"""Redis commands, each defined once: what to send, how to read the answer, when to retry.

Names and arguments are those of redis-py. To add a command, write its function here, and a line in
each of `UpstashRedis` and `Pipeline`. Their methods take signature and docstring from here.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, get_args

from .errors import AnswerError, DataError, UpstashError
from .texts import type_name

Argument = str | bytes | bytearray | memoryview | int | float
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])


class Command(Generic[T_co]):
    """One command, ready to be sent.

    Args:
        args: The command's name and its arguments, all text: one server turns JSON integers of
            1000000 and more into 1e+06.
        reader: Returns the result that an answer holds. Raises AnswerError if the answer does not
            fit this command.
        repeatable: Whether a second execution leaves the same data, and the answer to the first is
            not needed. Then the command may be sent again when it is not known whether it was
            executed.
        renew: Returns the arguments for an attempt, if they depend on when it is made.
    """

    __slots__ = ("_reader", "args", "renew", "repeatable")

    def __init__(
        self,
        args: list[str],
        reader: Callable[[Any], T_co],
        *,
        repeatable: bool = False,
        renew: Callable[[], list[str]] | None = None,
    ) -> None:
        self.args = args
        self.repeatable = repeatable
        self.renew = renew
        self._reader = reader

    def __repr__(self) -> str:
        # Without the arguments, which may be orders.
        return f"<Command {self.args[0]} with {len(self.args) - 1} arguments>"

    def read(self, answer: Any) -> T_co | UpstashError:
        """Return the result that an answer holds, or an error.

        Args:
            answer: Anything that JSON can hold, or the error of this command.

        Returns:
            The result; the error, if the answer is one; an `AnswerError`, if the answer does not
            fit this command.
        """
        if isinstance(answer, UpstashError):
            return answer
        try:
            return self._reader(answer)
        except AnswerError as error:
            # The frames hold the answer, which may repeat what was sent.
            return error.with_traceback(None)


def as_method(command: Callable[..., Command[Any]], method: Method, returns: object) -> Method:
    """Give a method the name, docstring, annotations and signature of its command.

    Args:
        command: The command's function in this module.
        method: A method that takes the command's arguments.
        returns: The type that the method returns; None for the type of the command's result.
    """
    method.__name__ = command.__name__
    method.__qualname__ = f"{method.__annotations__['self']}.{command.__name__}"
    method.__doc__ = command.__doc__
    (result,) = get_args(command.__annotations__["return"])
    method.__annotations__ = {**command.__annotations__, "return": returns or result}
    method.__wrapped__ = _Signed(command, method)  # type: ignore[attr-defined]
    return method


class _Signed:
    """Creates a method's signature when `inspect.signature` asks for it.

    So a cold start does not import `inspect`, which takes a few milliseconds.
    """

    def __init__(self, command: Callable[..., Any], method: Callable[..., Any]) -> None:
        self._command = command
        self._method = method
        # `typing.get_type_hints` looks names up here.
        self.__globals__ = method.__globals__

    @property
    def __signature__(self) -> Any:
        from inspect import Parameter, signature

        of_command = signature(self._command)
        parameters = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
        return of_command.replace(
            parameters=[*parameters, *of_command.parameters.values()],
            return_annotation=self._method.__annotations__["return"],
        )


# The most pages of one walk by SCAN: in a row without a new key, and in all. With a COUNT of 1,000,
# they cover 10 million other keys between two of ours, and 50 million keys in all.
MOST_IDLE_PAGES = 10_000
MOST_PAGES = 50_000


class Cursors:
    """The cursors of one walk by SCAN, which ends even if the endpoint never returns a cursor of 0.

    Redis increments cursors, with their bits reversed, so no cursor comes twice (`dictScan` in
    dict.c). A page may be empty before the end (Redis's documentation of SCAN).

    Args:
        count: The COUNT of each page; None for Redis's default (10). With a COUNT below 1,000, the
            walk may have more pages.
    """

    def __init__(self, count: int | None = None) -> None:
        self._followed: dict[int, None] = {}
        self._keys: list[str] = []
        self._idle = 0
        self._scale = 1000 / min(max(count or 10, 1), 1000)

    def lead_on(self, cursor: int, keys: list[str]) -> bool:
        """Return whether the walk continues with a cursor; 0 ends it.

        Args:
            cursor: The cursor of the next page.
            keys: The keys of this page.

        Raises:
            AnswerError: The cursor was returned before, or there are too many pages.
        """
        if cursor in self._followed:
            raise AnswerError(f"SCAN goes in circles: it returned the cursor {cursor} twice")
        self._followed[cursor] = None
        self._idle = self._idle + 1 if keys in ([], self._keys) else 0
        self._keys = keys or self._keys
        pages = len(self._followed)
        if pages > MOST_PAGES * self._scale or self._idle > MOST_IDLE_PAGES * self._scale:
            raise AnswerError(
                f"SCAN does not come to an end: {pages} pages were read, "
                f"the last {self._idle} without a new key"
            )
        return cursor != 0


def execute_command(*args: Argument) -> Command[Any]:
    """Execute any command, such as `execute_command("INCR", "visits")`. It is never sent twice.

    Args:
        args: The command's name and its arguments; each is sent as text.

    Returns:
        The result as the endpoint gives it: text, int, None or a list of these.
    """
    if not args:
        raise DataError("a command needs a name, such as execute_command('PING')")
    return Command([encode(arg) for arg in args], lambda answer: answer)


def ping() -> Command[bool]:
    """Return True when the endpoint answers and accepts the token."""
    # An answer without an error is enough. Its text is not checked, so that a test can have the
    # same answer for every command.
    return Command(["PING"], lambda answer: True, repeatable=True)


def set(
    name: Argument,
    value: Argument,
    ex: int | timedelta | None = None,
    px: int | timedelta | None = None,
    nx: bool = False,
    xx: bool = False,
    *,
    pxat: int | datetime | None = None,
) -> Command[bool | None]:
    """Set a key to a value.

    Args:
        name: The key.
        value: The value.
        ex: Expiry in seconds.
        px: Expiry in milliseconds.
        nx: Only if the key does not exist. Not retried once it may have been executed.
        xx: Only if the key exists.
        pxat: Time of expiry; an int is in milliseconds since 1970 UTC.

    Returns:
        True, or None if the key was not set because of `nx` or `xx`.
    """
    args = ["SET", encode(name), encode(value)]
    for option, expiry, scale in (("EX", ex, 1), ("PX", px, 1000), ("PXAT", pxat, 1000)):
        if expiry is not None:
            if len(args) > 3:
                raise DataError("set takes one of ex (seconds), px (milliseconds) and pxat")
            args += [option, _whole(expiry, scale)]
    if nx and xx:
        raise DataError("set takes nx (only if new) or xx (only if there), not both")
    args += ["NX"] * nx + ["XX"] * xx
    # After a first SET NX that set the key, a second one would answer "not set".
    return Command(args, _ok_or_none, repeatable=not nx)


def msetex(mapping: Mapping[str, Argument], *, ex: int | timedelta | None = None) -> Command[bool]:
    """Set several keys to values, with one expiry. All of them are set or none.

    Upstash has it (redis/commands/string/msetex in its documentation), and Redis from 8.4 on.

    Args:
        mapping: The values by key.
        ex: Expiry in seconds.

    Returns:
        True.
    """
    pairs = [encode(part) for pair in mapping.items() for part in pair]
    args = ["MSETEX", str(len(mapping)), *pairs]
    if ex is not None:
        args += ["EX", _whole(ex, 1)]
    return Command(args, _set, repeatable=True)


def get(name: Argument) -> Command[str | None]:
    """Return the value of a key, or None if there is none."""
    return Command(["GET", encode(name)], _text_or_none, repeatable=True)


def mget(keys: Argument | Iterable[Argument], *args: Argument) -> Command[list[str | None]]:
    """Return the values of keys, in their order.

    Args:
        keys: The keys, or the first of them.
        args: More keys.

    Returns:
        The values, with None for a key that is missing or holds a type other than a string.
    """
    names = _names(keys, args)

    def read(answer: Any) -> list[str | None]:
        values = _list(answer)
        if len(values) != len(names):
            number = f"{len(values)} instead of {len(names)}"
            raise AnswerError(f"the answer to MGET has the wrong number of values: {number}")
        return [_text_or_none(value) for value in values]

    return Command(["MGET", *names], read, repeatable=True)


def delete(*names: Argument) -> Command[int]:
    """Delete keys.

    Returns:
        The number of them that existed; 0 after a retry, if the first request deleted them.
    """
    return Command(["DEL", *_names(names)], _integer, repeatable=True)


def exists(*names: Argument) -> Command[int]:
    """Return how many of the keys exist."""
    return Command(["EXISTS", *_names(names)], _integer, repeatable=True)


def expire(name: Argument, time: int | timedelta) -> Command[bool]:
    """Set a key's expiry.

    Args:
        name: The key.
        time: Expiry in seconds.

    Returns:
        False if there is no such key.
    """
    args = ["EXPIRE", encode(name), _whole(time, 1)]
    return Command(args, lambda answer: _integer(answer) == 1, repeatable=True)


def ttl(name: Argument) -> Command[int]:
    """Return the seconds until a key expires; -1 if it never does, -2 if there is no such key."""
    return Command(["TTL", encode(name)], _integer, repeatable=True)


def pttl(name: Argument) -> Command[int]:
    """Return the milliseconds until a key expires; -1 and -2 as for `ttl`."""
    return Command(["PTTL", encode(name)], _integer, repeatable=True)


def keys(pattern: Argument = "*") -> Command[list[str]]:
    """Return all keys that match a glob. This is slow on a large database: see `scan`."""
    return Command(["KEYS", encode(pattern)], _texts, repeatable=True)


def scan(
    cursor: int = 0,
    match: Argument | None = None,
    count: int | None = None,
    _type: str | None = None,
) -> Command[tuple[int, list[str]]]:
    """Return one page of the keys.

    Args:
        cursor: 0 for the first page, then the cursor that the page before returned.
        match: A glob that the keys must match; `\\*?[]` in plain text need a backslash.
        count: About how many keys Redis checks for this page.
        _type: The type that the values must have, such as "string".

    Returns:
        The next cursor, 0 at the end, and the keys. A page may be empty before the end, and
        a key may come twice (Redis's documentation of SCAN).
    """
    args = ["SCAN", encode(cursor)]
    for option, value in (("MATCH", match), ("COUNT", count), ("TYPE", _type)):
        if value is not None:
            args += [option, encode(value)]
    return Command(args, _page, repeatable=True)


def dbsize() -> Command[int]:
    """Return how many keys the database holds, of any type."""
    return Command(["DBSIZE"], _integer, repeatable=True)


def encode(value: Argument) -> str:
    """Return an argument as text. The types are those of redis-py.

    An Enum that is also text or a number becomes its value on every Python; `str()` returns its
    name on some.

    Args:
        value: Text, bytes or a number.

    Raises:
        DataError: It has another type, or is not UTF-8.
    """
    try:
        if isinstance(value, str):
            text = str.__str__(value)
            text.encode()
            return text
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).decode()
        if isinstance(value, int) and not isinstance(value, bool):
            return int.__repr__(value)
        if isinstance(value, float):
            return float.__repr__(value)
    except ValueError as error:
        # Not UTF-8, or an int of more than 4300 digits (sys.set_int_max_str_digits).
        raise DataError(f"the REST API cannot carry this {type_name(value)}: {error}") from None
    raise DataError(f"an argument must be str, bytes, int or float, not {type_name(value)}")


def _names(names: Argument | Iterable[Argument], more: tuple[Argument, ...] = ()) -> list[str]:
    given = (names,) if isinstance(names, Argument) else names
    encoded = [encode(name) for name in (*given, *more)]
    if not encoded:
        raise DataError("at least one key is needed")
    return encoded


def _whole(time: int | timedelta | datetime, per_second: int) -> str:
    if isinstance(time, int) and not isinstance(time, bool):
        return encode(time)
    if isinstance(time, timedelta):
        return str(int(time.total_seconds() * per_second))
    if isinstance(time, datetime):
        return str(int(time.timestamp() * per_second))
    raise DataError(f"a time must be int, timedelta or datetime, not {type_name(time)}")


def _expected(answer: Any, kind: type[T], name: str) -> T:
    if isinstance(answer, kind) and not isinstance(answer, bool):
        return answer
    raise AnswerError(f"the endpoint answered with {type_name(answer)}, not {name}")


def _integer(answer: Any) -> int:
    # Redis's integers have 64 bits (its protocol specification, "Integers").
    if -(2**63) <= (number := _expected(answer, int, "an integer")) < 2**63:
        return number
    raise AnswerError("the endpoint answered with an integer of more than 64 bits")


def _text_or_none(answer: Any) -> str | None:
    return None if answer is None else _expected(answer, str, "text")


def _ok_or_none(answer: Any) -> bool | None:
    if answer in ("OK", None):
        return answer and True
    raise AnswerError(f"the endpoint answered with {type_name(answer)}, not OK")


def _set(answer: Any) -> bool:
    # Redis answers 1. A test may answer every command with OK.
    if answer == "OK" or _integer(answer) == 1:
        return True
    raise AnswerError("the endpoint answered MSETEX with an integer other than 1")


def _list(answer: Any) -> list[Any]:
    return _expected(answer, list, "an array")


def _texts(answer: Any) -> list[str]:
    return [_expected(text, str, "text") for text in _list(answer)]


def _page(answer: Any) -> tuple[int, list[str]]:
    page = _list(answer)
    # A cursor is an unsigned integer of 64 bits; it comes as text, since JSON could round it.
    cursor = str(page[0]) if page and type(page[0]) in (int, str) else ""
    if len(page) == 2 and cursor.isascii() and cursor.isdigit() and len(cursor) <= 20:
        return int(cursor), _texts(page[1])
    raise AnswerError("the endpoint answered SCAN without a cursor and keys")
