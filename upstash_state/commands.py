"""Redis commands as data: what to send, how to read the answer, whether to send it twice.

Named and shaped as in redis-py, where it has a name for a thing.
"""

from __future__ import annotations

from .errors import AnswerError, DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any, Generic, TypeVar

    Argument = str | bytes | bytearray | memoryview | int | float
    T = TypeVar("T")
    T_co = TypeVar("T_co", covariant=True)

    class _Generic(Generic[T_co]):
        pass

else:

    class _Generic:
        """`typing.Generic` costs more to import than all of this module."""

        def __class_getitem__(cls, item):
            return cls


class Command(_Generic["T_co"]):
    """One command on its way.

    Attributes:
        args: The command's name and its arguments, all text: one server turns JSON integers of
            1000000 and more into 1e+06.
        repeatable: Whether sending it twice leaves the same as sending it once, so that it may be
            sent again when it is not known whether it was run.
    """

    __slots__ = ("args", "read", "repeatable")

    def __init__(
        self, args: list[str], read: Callable[[Any], T_co], *, repeatable: bool = False
    ) -> None:
        self.args = args
        self.read = read
        self.repeatable = repeatable

    def __repr__(self) -> str:
        # Values are people's orders; a name is enough to find the place.
        return f"<Command {self.args[0]} with {len(self.args) - 1} arguments>"


class Cursors:
    """The cursors of one walk by SCAN.

    Redis counts them upwards, their bits in reverse, so none comes twice (`dictScan` in dict.c). A
    walk that follows one that does would never end.
    """

    def __init__(self) -> None:
        self._followed: set[int] = set()

    def lead_on(self, cursor: int) -> bool:
        """Whether the walk goes on with this cursor; 0 ends it.

        Raises:
            AnswerError: The cursor has been followed before.
        """
        if cursor in self._followed:
            raise AnswerError(f"SCAN goes in circles: it gave the cursor {cursor} twice")
        self._followed.add(cursor)
        return cursor != 0


def any_command(*args: Argument) -> Command[Any]:
    """A command of the caller's own. What it does is not known here, so it is never repeated."""
    if not args:
        raise DataError("a command needs a name, such as execute_command('PING')")
    return Command([encode(arg) for arg in args], _anything)


def ping() -> Command[bool]:
    # That there is an answer and no error is the proof. Its text is not looked at, so that a
    # test's one canned answer for everything serves here as well.
    return Command(["PING"], lambda answer: True, repeatable=True)


def set_(
    name: Argument,
    value: Argument,
    ex: int | timedelta | None = None,
    px: int | timedelta | None = None,
    nx: bool = False,
    xx: bool = False,
) -> Command[bool | None]:
    if ex is not None and px is not None:
        raise DataError("set takes ex (seconds) or px (milliseconds), not both")
    if nx and xx:
        raise DataError("set takes nx (only if new) or xx (only if there), not both")
    args = ["SET", encode(name), encode(value)]
    if ex is not None:
        args += ["EX", _whole(ex, 1)]
    if px is not None:
        args += ["PX", _whole(px, 1000)]
    if nx:
        args.append("NX")
    if xx:
        args.append("XX")
    # A second SET NX would say "not set" of what the first one has set.
    return Command(args, _ok_or_none, repeatable=not nx)


def get(name: Argument) -> Command[str | None]:
    return Command(["GET", encode(name)], _text_or_none, repeatable=True)


def mget(keys: Argument | Iterable[Argument], *more: Argument) -> Command[list[str | None]]:
    names = _names(keys, more)

    def read(answer: Any) -> list[str | None]:
        values = _list(answer)
        if len(values) != len(names):
            raise AnswerError(f"MGET of {len(names)} keys was answered with {len(values)} values")
        return [_text_or_none(value) for value in values]

    return Command(["MGET", *names], read, repeatable=True)


def delete(*names: Argument) -> Command[int]:
    # Sent twice, it leaves the same; only the count may then be of the second time.
    return Command(["DEL", *_names(names)], _integer, repeatable=True)


def exists(*names: Argument) -> Command[int]:
    return Command(["EXISTS", *_names(names)], _integer, repeatable=True)


def expire(name: Argument, time: int | timedelta) -> Command[bool]:
    return Command(
        ["EXPIRE", encode(name), _whole(time, 1)],
        lambda answer: _integer(answer) == 1,
        repeatable=True,
    )


def ttl(name: Argument) -> Command[int]:
    return Command(["TTL", encode(name)], _integer, repeatable=True)


def keys(pattern: Argument = "*") -> Command[list[str]]:
    return Command(["KEYS", encode(pattern)], _texts, repeatable=True)


def scan(
    cursor: int = 0,
    match: Argument | None = None,
    count: int | None = None,
    _type: str | None = None,
) -> Command[tuple[int, list[str]]]:
    args = ["SCAN", encode(cursor)]
    if match is not None:
        args += ["MATCH", encode(match)]
    if count is not None:
        args += ["COUNT", encode(count)]
    if _type is not None:
        args += ["TYPE", encode(_type)]
    return Command(args, _page, repeatable=True)


def dbsize() -> Command[int]:
    return Command(["DBSIZE"], _integer, repeatable=True)


def encode(value: Argument) -> str:
    """An argument as text. Takes what redis-py takes, and refuses the rest with its error class.

    An Enum that is also text or a number is sent as its value, whatever the Python: `str()` of one
    gives its name on some.

    Args:
        value: Text, bytes or a number.

    Raises:
        DataError: It is something else, or cannot be carried as UTF-8.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise DataError("bytes that are not UTF-8 cannot be sent over the REST API") from None
    if isinstance(value, str):
        text = str.__str__(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError("text with lone surrogates cannot be sent over the REST API") from None
        return text
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return int.__repr__(value)
        except ValueError as error:
            # Python writes no int of more than 4300 digits (sys.set_int_max_str_digits).
            raise DataError(str(error)) from None
    if isinstance(value, float):
        return float.__repr__(value)
    raise DataError(f"an argument must be str, bytes, int or float, not {type(value).__name__}")


def _names(names: Argument | Iterable[Argument], more: tuple[Argument, ...] = ()) -> list[str]:
    given = (
        (names,) if isinstance(names, (str, bytes, bytearray, memoryview, int, float)) else names
    )
    encoded = [encode(name) for name in (*given, *more)]
    if not encoded:
        raise DataError("at least one key is needed")
    return encoded


def _whole(time: int | timedelta, per_second: int) -> str:
    if isinstance(time, int) and not isinstance(time, bool):
        return str(time)
    seconds = getattr(time, "total_seconds", None)
    if seconds is None:
        raise DataError(f"a time must be int or timedelta, not {type(time).__name__}")
    return str(int(seconds() * per_second))


def _anything(answer: Any) -> Any:
    return answer


def _integer(answer: Any) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer
    raise _unlike("an integer", answer)


def _text_or_none(answer: Any) -> str | None:
    if answer is None or isinstance(answer, str):
        return answer
    raise _unlike("text", answer)


def _ok_or_none(answer: Any) -> bool | None:
    if answer is None:
        return None
    if answer == "OK":
        return True
    raise _unlike("OK", answer)


def _list(answer: Any) -> list[Any]:
    if isinstance(answer, list):
        return answer
    raise _unlike("an array", answer)


def _texts(answer: Any) -> list[str]:
    texts = _list(answer)
    for text in texts:
        if not isinstance(text, str):
            raise _unlike("an array of text", answer)
    return texts


def _page(answer: Any) -> tuple[int, list[str]]:
    page = _list(answer)
    if len(page) == 2 and isinstance(page[0], (str, int)):
        try:
            return int(page[0]), _texts(page[1])
        except ValueError:
            pass
    raise _unlike("a cursor and an array of keys", answer)


def _unlike(expected: str, answer: Any) -> AnswerError:
    return AnswerError(f"the endpoint answered with {type(answer).__name__}, not {expected}")
