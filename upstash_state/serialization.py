"""Convert orders to JSON text and back, in the form that the TCP module `redis_state` stores.

A datetime is written as `isoformat()` where that module wrote one: as a value of the order itself,
or of a dict directly inside one of its lists (`status_history`). Values that made it refuse the
whole order are written in MongoDB's extended JSON: a datetime anywhere else and any date as
`{"$date": "..."}`, a Decimal as `{"$numberDecimal": "..."}`, a UUID as `{"$uuid": "..."}`.
https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timezone
from json import JSONDecoder, JSONEncoder
from typing import Any, TypeGuard

from .commands import encode
from .errors import DataError, OrderNotSerializableError, OrderUnreadableError
from .texts import shown, text_of, type_name

# 4300 digits, the most that Python converts to text by default: docs.python.org, "Integer string
# conversion length limitation".
_MAX_INT_BITS = 14_285


def order_id_text(order_id: str | int) -> str:
    """Convert an order id to the text that its key ends with.

    Args:
        order_id: Any text, or an int, which becomes its decimal digits. An Enum that is also one
            of these counts as its value.

    Returns:
        The text.

    Raises:
        DataError: It is of another type, an int of more than 4300 digits, or text that UTF-8
            cannot carry.
    """
    if not isinstance(order_id, (str, int)) or isinstance(order_id, bool):
        raise DataError(f"invalid order id: {type_name(order_id)}, must be str or int")
    if isinstance(order_id, int) and int.bit_length(order_id) > _MAX_INT_BITS:
        raise DataError("invalid order id: an int of more than 4300 digits")
    try:
        return encode(order_id)
    except DataError as error:
        raise DataError(f"invalid order id: {error}") from None


def shown_order_id(order_id: object) -> str:
    """Return an order id, or another object given as one, as one line for the log.

    Args:
        order_id: Any object.

    Returns:
        Printable text of at most 201 characters. Never raises.
    """
    # An object can raise anything: a proxy outside of its context does, when asked for its type.
    with suppress(Exception):
        text = order_id if isinstance(order_id, str) else order_id_text(order_id)  # type: ignore[arg-type]
        return shown(text, 200)
    return f"<{type_name(order_id)}>"


def serialize_order(order_data: Mapping[str, Any]) -> str:
    """Write an order as JSON text. The order itself is not changed.

    The text is the same as that of `json.dumps(order, ensure_ascii=False)` wherever that accepts
    the order. So tuples become lists, Enums become their values, and numeric keys become strings.
    If keys become the same string, `deserialize_order` returns the last one. Lone surrogates, which
    UTF-8 cannot carry, are escaped. A datetime keeps its offset, but not the name of its zone or
    `fold`: both `ZoneInfo("Europe/Berlin")` and `timezone(timedelta(hours=1))` become `+01:00`.

    Args:
        order_data: The order: JSON's types, datetime, date, Decimal and UUID, at any depth.

    Returns:
        Text that `deserialize_order` turns back into an equal order.

    Raises:
        OrderNotSerializableError: The order holds a value or key of another type, contains itself,
            or is nested too deeply. The message names the path and the type, and says what to
            convert it to: `status_history[2].price: set`.
    """
    try:
        if not isinstance(order_data, (dict, Mapping)):
            raise OrderNotSerializableError(f"an order is a dict, not {type_name(order_data)}")
        return escape_surrogates(_encoder.encode(_with_isoformat(order_data)))
    except OrderNotSerializableError:
        raise
    except RecursionError as error:
        raise OrderNotSerializableError("JSON cannot hold the order: nested too deeply") from error
    except Exception as error:
        # Any exception, because the order's own objects may raise, such as a time zone without an
        # offset, or a proxy outside of its context.
        reason = shown(text_of(error)) or type_name(error)
        with suppress(Exception):
            reason = _find_refused(order_data) or reason
        raise OrderNotSerializableError(f"JSON cannot hold the order: {reason}") from error


def deserialize_order(json_str: str | bytes) -> dict[str, Any]:
    """Read an order that `serialize_order`, or `redis_state`, has written.

    Strings become datetimes only where `redis_state` writes datetimes. A string is a datetime if it
    consists of a full date, "T" and a time with or without offset, in the forms of ISO 8601 that
    programs write: `isoformat()`, JavaScript's `toISOString()`, the basic format, ISO weeks. It is
    read by `datetime.fromisoformat` or, where this Python's refuses it, by `dateutil`'s
    `isoparse`, so that it means the same on every Python. Strings deeper in the order stay strings,
    because orders hold payloads of other parties.

    The stored form has one ambiguity: a dict of the app's own that equals what `serialize_order`
    writes for a value comes back as that value. `{"$date": "2025-12-01T11:00:00.123Z"}`, as MongoDB
    writes it, stays a dict, because `serialize_order` does not write this form.

    Args:
        json_str: The stored text, or the same in UTF-8.

    Returns:
        The order.

    Raises:
        OrderUnreadableError: The text is not JSON, not an object, or nested too deeply.
    """
    if not isinstance(json_str, (str, bytes)):
        raise OrderUnreadableError(f"stored text must be str, not {type_name(json_str)}")
    try:
        text = json_str if isinstance(json_str, str) else json_str.decode()
        value = _decoder_for(text).decode(text)
    except RecursionError as error:
        raise OrderUnreadableError("stored text is nested too deeply") from error
    except ValueError as error:
        raise OrderUnreadableError(f"stored text cannot be read as JSON: {error}") from error
    return _with_datetimes(value)


def deserialize_orders(texts: Sequence[str]) -> Iterator[dict[str, Any] | OrderUnreadableError]:
    """Read many orders, each as `deserialize_order` would.

    Several are decoded together, so that their dicts share their keys. That saves a quarter of the
    memory, and the time to fill it.

    Args:
        texts: The stored texts.

    Yields:
        For each text its order, or the error that `deserialize_order` would raise.
    """
    # The mark is random, so that no stored text can end one order and start another. It is not
    # created at import, when Cloudflare's Workers have no random numbers.
    mark = os.urandom(16).hex()
    separator = f',"{mark}",'
    for start in range(0, len(texts), _BATCH_SIZE):
        batch = texts[start : start + _BATCH_SIZE]
        joined = f"[{separator.join(batch)}]"
        try:
            values = _decoder_for(joined).decode(joined)
        except (ValueError, RecursionError):
            values = []
        # With every mark in its place, each text was one JSON value.
        whole = values[1::2] == [mark] * (len(batch) - 1) and len(values) == 2 * len(batch) - 1
        read: Callable[[Any], Any] = _with_datetimes if whole else deserialize_order
        for item in values[::2] if whole else batch:
            try:
                order = read(item)
            except OrderUnreadableError as error:
                order = error
            yield order


def escape_surrogates(text: str) -> str:
    """Escape lone surrogates in JSON text, so that UTF-8 can carry it."""
    # Python's escape of a surrogate, \\udXXX, is JSON's.
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _with_isoformat(order: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the order, with its datetimes as text where `redis_state` wrote them as text."""
    # The copies are iterated, not the originals: another thread may change those meanwhile.
    copy = dict(order)
    for key, value in copy.items():
        if type(value) in _PLAIN:
            continue
        if _is_datetime(value):
            copy[key] = value.isoformat()
        elif isinstance(value, (list, tuple)):
            copy[key] = items = list(value)
            for index, item in enumerate(items):
                if isinstance(item, dict):
                    items[index] = fields = dict(item)
                    for name, field in fields.items():
                        if type(field) is not str and _is_datetime(field):
                            fields[name] = field.isoformat()
    return copy


def _with_datetimes(order: Any) -> dict[str, Any]:
    """Replace, in place, the texts of an order that are datetimes."""
    if not isinstance(order, dict):
        # A dict that looks like a tag is still an order when it is the whole text.
        with suppress(TypeError):
            order = _to_tag(order)
    if not isinstance(order, dict):
        raise OrderUnreadableError(f"stored text must hold an object, not {type_name(order)}")
    for key, value in order.items():
        if type(value) is str:
            if "T" in value:
                order[key] = _read_datetime(value)
        elif type(value) is list:
            for fields in value:
                if type(fields) is dict:
                    for name, field in fields.items():
                        if type(field) is str:
                            if "T" in field:
                                fields[name] = _read_datetime(field)
                        elif type(field) is datetime:
                            fields[name] = _to_tag(field)
        elif type(value) is datetime:
            # `serialize_order` writes no tag for a datetime here: it is a dict of the app's own.
            order[key] = _to_tag(value)
    return order


# Stricter than both parsers: `isoparse` reads ordinal dates and, before dateutil 4, a space for a
# digit; `fromisoformat`, on some Pythons, weeks without a day and fractions of hours and minutes.
_DATETIME = re.compile(
    r"\d{4}(?:-\d\d-\d\d|\d{4}|-W\d\d-\d|W\d{3})"
    r"T\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?"
    r"(?:[Zz]|[+-]\d\d(?::?[0-5]\d(?::[0-5]\d(?:\.\d{6})?)?)?)?"
)
# Characters 10, 13, 16 and 19 of `isoformat()`. Most texts have this form, and matching takes
# longer than reading, so the rest of such a text is left to `fromisoformat`.
_SEPARATORS = frozenset({"T::", "T::.", "T::+", "T::-", "T::Z"})


def _read_datetime(text: str) -> datetime | str:
    if text[10:20:3] not in _SEPARATORS and not _DATETIME.fullmatch(text):
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        if not _DATETIME.fullmatch(text):
            return text
    # Imported only here: few apps store such texts, and a cold start would pay for it.
    from dateutil.parser import isoparse

    # OverflowError: 24:00 on the last day of the year 9999.
    with suppress(ValueError, OverflowError):
        moment: datetime = isoparse(text)
        offset = moment.utcoffset()
        return moment if offset is None else moment.replace(tzinfo=timezone(offset))
    return text


# Most values have these types, and are copied as they are.
_PLAIN = frozenset({str, int, float, bool, type(None), dict})


def _is_datetime(value: object) -> TypeGuard[datetime]:
    # pandas' NaT is a datetime, but does not equal itself.
    return type(value) is datetime or (isinstance(value, datetime) and value == value)


def _to_tag(value: object) -> dict[str, str]:
    if _is_datetime(value):
        # Not pandas' isoformat(), whose nanoseconds no datetime can hold.
        return {"$date": datetime.isoformat(value)}
    if isinstance(value, date) and not isinstance(value, datetime):
        return {"$date": date.isoformat(value)}

    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, Decimal):
        # The decimal context may ask for a lower-case e.
        return {"$numberDecimal": Decimal.__str__(value).replace("e", "E")}
    if isinstance(value, UUID):
        return {"$uuid": UUID.__str__(value)}
    raise TypeError("convert it to text, a number, bool, list, dict, datetime, Decimal or UUID")


def _from_tag(fields: dict[str, Any]) -> Any:
    """Return the value that `_to_tag` wrote as this dict, or the dict if it wrote none."""
    if len(fields) == 1:
        ((tag, text),) = fields.items()
        if tag in ("$date", "$numberDecimal", "$uuid") and type(text) is str:
            with suppress(ValueError, ArithmeticError):
                value = _parse_tag(tag, text)
                if _to_tag(value) == fields:
                    return value
    return fields


def _parse_tag(tag: str, text: str) -> object:
    if tag == "$date":
        return (date if len(text) == 10 else datetime).fromisoformat(text)
    if tag == "$uuid":
        from uuid import UUID

        return UUID(text)
    from decimal import Decimal

    return Decimal(text)


_encoder = JSONEncoder(ensure_ascii=False, default=_to_tag)
_decoder = JSONDecoder()
_tag_decoder = JSONDecoder(object_hook=_from_tag)


def _decoder_for(text: str) -> JSONDecoder:
    # Looking for one rare character first takes a tenth of the time.
    return _tag_decoder if "$" in text and '{"$' in text else _decoder


# Orders decoded together: enough to share keys, few enough for a processor's cache.
_BATCH_SIZE = 32


def _find_refused(order: Mapping[Any, Any]) -> str | None:
    """Return the path to a key or value that JSON cannot hold, and why."""
    # The containers around the current member, innermost last, each with the members still to try.
    levels = {id(order): _members(order)}
    path: list[Any] = []
    while levels:
        members = next(reversed(levels.values()))
        if not members:
            levels.popitem()
            del path[-1:]
            continue
        step, member = members.pop()
        try:
            _encoder.encode({step: None})
        except Exception:
            return f"{_shown_path(path)}: key of type {_shown_type(step)} - convert it to text"
        path.append(step)
        if id(member) in levels:
            return f"{_shown_path(path)}: circular reference"
        try:
            if isinstance(member, (dict, list, tuple)):
                levels[id(member)] = _members(member)
                continue
            _encoder.encode(member)
        except Exception as error:
            return f"{_shown_path(path)}: {_shown_type(member)} - {shown(text_of(error))}"
        path.pop()
    return None


def _members(container: Any) -> list[tuple[Any, Any]]:
    is_dict = isinstance(container, (dict, Mapping))
    return list(container.items() if is_dict else enumerate(container))


def _shown_path(path: Sequence[Any]) -> str:
    steps = []
    for step in path:
        named = type(step) is str and step.isidentifier()
        steps.append(f".{step}" if named else f"[{_encoder.encode(step)}]")
    text = "".join(steps).removeprefix(".") or "order"
    return shown(text if len(text) <= 200 else f"{text[:100]}…{text[-100:]}")


def _shown_type(value: object) -> str:
    # With its module where a builtin type has the same name: numpy has a bool.
    name, module = type_name(value), type(value).__module__
    return shown(f"{module}.{name}") if module != "builtins" and hasattr(builtins, name) else name
