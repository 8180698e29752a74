"""Orders to JSON text and back, in the form that the TCP module `redis_state` stores.

A datetime is written as `isoformat()` where that module wrote one: as a value of the order itself,
or of a dict directly inside one of its lists (`status_history`). What made it refuse a whole order
is written in MongoDB's extended JSON: a datetime anywhere else and any date as `{"$date": "..."}`,
a Decimal as `{"$numberDecimal": "..."}`, a UUID as `{"$uuid": "..."}`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from json import JSONDecoder, JSONEncoder
from os import urandom
from typing import Any, TypeGuard

from .commands import encode
from .errors import DataError, OrderNotSerializableError, OrderUnreadableError
from .iso8601 import parse


def order_id_text(order_id: str | int) -> str:
    """An order id as the text that its key ends with.

    Args:
        order_id: Any text, or an int, which becomes its decimal digits. An Enum that is also one
            of these counts as its value.

    Raises:
        DataError: It is something else, or text that UTF-8 cannot carry.
    """
    if not isinstance(order_id, (str, int)) or isinstance(order_id, bool):
        raise DataError(f"invalid order id: {type(order_id).__name__}, must be str or int")
    try:
        return encode(order_id)
    except DataError as error:
        raise DataError(f"invalid order id: {error}") from None


def shown_order_id(order_id: object) -> str:
    """Whatever an app calls an order id, on one line, for the log. Does not raise."""
    if isinstance(order_id, str):
        text = str.__str__(order_id)
        return text if text.isprintable() else ascii(text)
    with suppress(DataError):
        return order_id_text(order_id)  # type: ignore[arg-type]
    return f"<{type(order_id).__name__}>"


def serialize_order(order_data: Mapping[str, Any]) -> str:
    """Write an order as JSON text. The order itself is left as it is.

    Everything that `json.dumps(order, ensure_ascii=False)` writes comes out as the same text, and
    as there tuples become lists, Enums their values, and keys that are numbers strings. Lone
    surrogates, which UTF-8 cannot carry, are escaped. A datetime's offset is kept, its zone's name
    and `fold` are not: both `ZoneInfo("Europe/Berlin")` and `timezone(timedelta(hours=1))` are
    `+01:00`.

    Args:
        order_data: The order: JSON's types, datetime, date, Decimal and UUID, at any depth.

    Returns:
        Text that `deserialize_order` turns back into an equal order.

    Raises:
        OrderNotSerializableError: The order holds something else, or two keys of one dict that
            become the same text, or contains itself, or is nested too deeply. The message names
            the path and says what to convert: `status_history[2].price: set`.
    """
    if not isinstance(order_data, (dict, Mapping)):
        raise OrderNotSerializableError(f"an order is a dict, not {type(order_data).__name__}")
    order = _with_iso_dates(order_data)
    try:
        text = _encoder.encode(order)
        _refuse_equal_keys(order)
    except RecursionError as error:
        raise OrderNotSerializableError("JSON cannot hold the order: nested too deeply") from error
    except (TypeError, ValueError) as error:
        reason = _culprit(order_data) or error
        raise OrderNotSerializableError(f"JSON cannot hold the order: {reason}") from error
    return escape_surrogates(text)


def deserialize_order(json_str: str | bytes) -> dict[str, Any]:
    """Read an order that `serialize_order`, or `redis_state`, has written.

    Strings become datetimes only where `redis_state` writes datetimes, and only if they hold a "T"
    and are ISO 8601 as Python 3.11's `datetime.fromisoformat` reads it. Deeper strings stay as they
    are, because orders hold webhook payloads of other parties. The one ambiguity of the stored form
    is a payload's own dict of just one of the keys that `serialize_order` adds, with text exactly
    as that writes it: it comes back as the value (`{"$date": "2025-12-01T11:00:00.123Z"}`, in
    MongoDB's own form, does not).

    Args:
        json_str: The stored text, or the same in UTF-8.

    Returns:
        The order.

    Raises:
        OrderUnreadableError: The text is not JSON, or not of an object, or nested too deeply.
    """
    if not isinstance(json_str, (str, bytes)):
        raise OrderUnreadableError(f"stored text must be str, not {type(json_str).__name__}")
    try:
        text = json_str if isinstance(json_str, str) else json_str.decode()
        value = _decoder_of(text).decode(text)
    except RecursionError as error:
        raise OrderUnreadableError("stored text is nested too deeply") from error
    except ValueError as error:
        raise OrderUnreadableError(f"stored text cannot be read as JSON: {error}") from error
    return _with_dates(value)


def deserialize_orders(texts: Sequence[str]) -> Iterator[dict[str, Any] | OrderUnreadableError]:
    """Read many orders, each as `deserialize_order` would.

    Several are read in one go, so that their dicts share their keys: that saves a quarter of the
    memory that they take, and the time to fill it.

    Args:
        texts: The stored texts.

    Yields:
        For each text its order, or what is wrong with it.
    """
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        try:
            together = f"[{_JOINT.join(some)}]"
            values = _decoder_of(together).decode(together)
        except (ValueError, RecursionError):
            values = []
        # With every joint in its place, there is just one value where each text was.
        apart = values[1::2] == [_BETWEEN] * (len(some) - 1) and len(values) == 2 * len(some) - 1
        read: Callable[[Any], Any] = _with_dates if apart else deserialize_order
        for item in values[::2] if apart else some:
            try:
                order = read(item)
            except OrderUnreadableError as error:
                order = error
            yield order


def _with_dates(order: Any) -> dict[str, Any]:
    if not isinstance(order, dict):
        # An order of nothing but a tag is an order nevertheless.
        with suppress(TypeError):
            order = _tag(order)
    if not isinstance(order, dict):
        raise OrderUnreadableError(f"stored text holds no object but {type(order).__name__}")
    for key, value in order.items():
        if type(value) is str:
            if "T" in value:
                order[key] = _read_iso_date(value)
        elif type(value) is list:
            for fields in value:
                if type(fields) is dict:
                    for name, field in fields.items():
                        if type(field) is str:
                            if "T" in field:
                                fields[name] = _read_iso_date(field)
                        elif type(field) is datetime:
                            fields[name] = _tag(field)
        elif type(value) is datetime:
            # No datetime is tagged here: it is a dict of the app's own.
            order[key] = _tag(value)
    return order


def _read_iso_date(text: str) -> datetime | str:
    try:
        return parse(text)
    except ValueError:
        return text


# Most values are of these types. None is a datetime, and but for dict none holds others.
_LEAVES = frozenset({str, int, float, bool, type(None)})
_PLAIN = _LEAVES | {dict}


def _is_moment(value: object) -> TypeGuard[datetime]:
    # pandas' NaT is a datetime, but not even equal to itself.
    return type(value) is datetime or (isinstance(value, datetime) and value == value)


def _with_iso_dates(order: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the order, as deep as datetimes go that are written as `isoformat()`."""
    # Copied before they are looked through, so that another thread may go on adding to them.
    copy = dict(order)
    for key, value in copy.items():
        if type(value) in _PLAIN:
            continue
        if _is_moment(value):
            copy[key] = value.isoformat()
        elif isinstance(value, (list, tuple)):
            copy[key] = items = list(value)
            for index, item in enumerate(items):
                if isinstance(item, dict):
                    items[index] = fields = dict(item)
                    for name, field in fields.items():
                        if type(field) is not str and _is_moment(field):
                            fields[name] = field.isoformat()
    return copy


def _tag(value: object) -> dict[str, str]:
    if _is_moment(value):
        # Not pandas' isoformat(), which has nanoseconds, of which no datetime can be made again.
        return {"$date": datetime.isoformat(value)}
    if isinstance(value, date) and not isinstance(value, datetime):
        return {"$date": date.isoformat(value)}

    from decimal import Decimal
    from uuid import UUID

    if isinstance(value, Decimal):
        # Whatever the context says, which may ask for a small e.
        return {"$numberDecimal": Decimal.__str__(value).replace("e", "E")}
    if isinstance(value, UUID):
        return {"$uuid": UUID.__str__(value)}
    raise TypeError("convert it to text, a number, bool, list, dict, datetime, Decimal or UUID")


def _decoder_of(text: str) -> JSONDecoder:
    # Looking for one rare character first takes a tenth of the time.
    return _tag_decoder if "$" in text and '{"$' in text else _decoder


def _read_tag(value: dict[str, Any]) -> Any:
    """What a dict was before `_tag` made it: only text in exactly that form counts."""
    if len(value) == 1:
        ((tag, text),) = value.items()
        if tag in _READERS and type(text) is str:
            with suppress(ValueError, ArithmeticError):
                found = _READERS[tag](text)
                if _tag(found) == value:
                    return found
    return value


def _read_date(text: str) -> date:
    return date.fromisoformat(text) if len(text) == 10 else parse(text)


def _read_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _read_uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


_READERS: dict[str, Any] = {
    "$date": _read_date,
    "$numberDecimal": _read_decimal,
    "$uuid": _read_uuid,
}
_encoder = JSONEncoder(ensure_ascii=False, default=_tag)
_decoder = JSONDecoder()
_tag_decoder = JSONDecoder(object_hook=_read_tag)

# How many orders are read in one go: enough to share keys, few enough for a processor's cache.
_TOGETHER = 32
# No stored text can hold this, so that none can close an order and open another unnoticed.
_BETWEEN = urandom(16).hex()
_JOINT = f',"{_BETWEEN}",'


def escape_surrogates(text: str) -> str:
    """JSON text that UTF-8 can carry."""
    # Python's escape of a surrogate, \\udXXX, is JSON's.
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _refuse_equal_keys(order: dict[Any, Any]) -> None:
    """Raise ValueError for a dict whose keys become the same text, which keys of text cannot."""
    containers: list[Any] = [order]
    for container in containers:
        if isinstance(container, dict):
            # Copies, so that another thread may go on adding to it.
            for key in (keys := [*container]):
                if type(key) is not str:
                    if len({*map(_key_text, keys)}) < len(keys):
                        raise ValueError("two keys of one dict become the same text")
                    break
            container = [*container.values()]
        elif not isinstance(container, (list, tuple)):
            continue
        for member in container:
            if type(member) not in _LEAVES:
                containers.append(member)


def _key_text(key: Any) -> str:
    if type(key) is str:
        return key
    (text,) = _decoder.decode(_encoder.encode({key: 0}))
    return str(text)


def _culprit(order: Mapping[Any, Any]) -> str | None:
    """The path to what JSON cannot hold, and why: asked only once that is known."""
    # Each container with its place: the container around it, its key or index there, and the place
    # of that one.
    places: list[tuple[Any, Any]] = [(order, None)]
    for container, place in places:
        texts = set()
        is_dict = isinstance(container, (dict, Mapping))
        for step, member in list(container.items() if is_dict else enumerate(container)):
            here = around = (container, step, place)
            try:
                text = _key_text(step) if is_dict else None
            except (TypeError, ValueError):
                return f"{_path(place)}: key of type {_kind(step)} - convert it to text"
            if is_dict and text in texts:
                return f"{_path(here)}: two keys of one dict become this text"
            texts.add(text)
            if isinstance(member, (dict, list, tuple)):
                places.append((member, here))
                while around:
                    if around[0] is member:
                        return f"{_path(here)}: circular reference"
                    around = around[2]
            else:
                try:
                    _encoder.encode(member)
                except (TypeError, ValueError) as error:
                    return f"{_path(here)}: {_kind(member)} - {error}"
    return None


def _kind(value: Any) -> str:
    # With its module where the name alone is that of another type: numpy has a bool.
    name, module = type(value).__name__, type(value).__module__
    return f"{module}.{name}" if module != "builtins" and hasattr(builtins, name) else name


def _path(place: Any) -> str:
    path = ""
    while place:
        _, step, place = place
        named = type(step) is str and step.isidentifier()
        path = (f".{step}" if named else f"[{escape_surrogates(_encoder.encode(step))}]") + path
    return path.removeprefix(".") or "order"
