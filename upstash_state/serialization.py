"""Orders to JSON text and back, in the form that the TCP module `redis_state` stores.

A datetime is written as `isoformat()` where that module wrote one: as a value of the order itself,
or of a dict directly inside one of its lists (`status_history`). It refused a whole order for a
datetime anywhere else; here such a one becomes `{"$date": "..."}`, MongoDB's extended JSON.
"""

from __future__ import annotations

import sys
from datetime import datetime
from json import JSONDecoder, JSONEncoder
from os import urandom

from .commands import encode
from .errors import DataError, OrderNotSerializableError, OrderUnreadableError

# What counts as ISO 8601 is what Python 3.11 reads, since stored text must not change its meaning
# with the Python that restores it. 3.10 reads far less; 3.12 and 3.13 read the same.
if sys.version_info >= (3, 11):
    _parse = datetime.fromisoformat
else:
    from .iso8601 import parse as _parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any


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
    try:
        text = order_id_text(order_id)  # type: ignore[arg-type]
    except DataError:
        if not isinstance(order_id, str):
            return f"<{type(order_id).__name__}>"
        text = str.__str__(order_id)
    return text if text.isprintable() else ascii(text)


def serialize_order(order_data: dict[str, Any]) -> str:
    """Write an order as JSON text. The order itself is left as it is.

    Everything that `json.dumps(order, ensure_ascii=False)` writes comes out as the same text, and
    as there tuples become lists and keys that are numbers become strings. Lone surrogates, which
    UTF-8 cannot carry, are escaped. A datetime's offset is kept, its zone's name and `fold` are
    not: both `ZoneInfo("Europe/Berlin")` and `timezone(timedelta(hours=1))` are `+01:00`.

    Args:
        order_data: The order: JSON's types and datetimes, at any depth.

    Returns:
        Text that `deserialize_order` turns back into an equal order.

    Raises:
        OrderNotSerializableError: The order holds something else, or contains itself, or is nested
            too deeply. The message names the path: `status_history[2].price: Decimal`.
    """
    if not isinstance(order_data, dict):
        raise OrderNotSerializableError(f"an order is a dict, not {type(order_data).__name__}")
    try:
        text = _encoder.encode(_with_iso_dates(order_data))
    except RecursionError as error:
        raise OrderNotSerializableError("JSON cannot hold the order: nested too deeply") from error
    except (TypeError, ValueError) as error:
        reason = _culprit(order_data) or str(error)
        raise OrderNotSerializableError(f"JSON cannot hold the order: {reason}") from error
    return _escape_surrogates(text)


def deserialize_order(json_str: str | bytes) -> dict[str, Any]:
    """Read an order that `serialize_order`, or `redis_state`, has written.

    Strings become datetimes only where `redis_state` writes datetimes, and only if they hold a "T"
    and are ISO 8601 as Python 3.11's `datetime.fromisoformat` reads it. Deeper strings stay as they
    are, because orders hold webhook payloads of other parties. Deeper than that a datetime is
    `{"$date": "..."}`; the one ambiguity of the stored form is a payload's own dict of just that
    key and text in exactly the form of `isoformat()`, which comes back as a datetime too (MongoDB's
    own, with milliseconds and "Z", does not).

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
        value = _decoder.decode(text)
    except RecursionError as error:
        raise OrderUnreadableError("stored text is nested too deeply") from error
    except ValueError as error:
        raise OrderUnreadableError(f"stored text cannot be read as JSON: {error}") from error
    return _with_dates(value, text)


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
            values = _decoder.decode(f"[{_JOINT.join(some)}]")
        except (ValueError, RecursionError):
            values = []
        # With every joint in its place, there is just one value where each text was.
        if values[1::2] == [_BETWEEN] * (len(some) - 1) and len(values) == 2 * len(some) - 1:
            for value, text in zip(values[::2], some):
                yield _order_or_error(_with_dates, value, text)
        else:
            for text in some:
                yield _order_or_error(deserialize_order, text)


def _order_or_error(read: Callable[..., dict[str, Any]], *args: Any) -> Any:
    try:
        return read(*args)
    except OrderUnreadableError as error:
        return error


def _with_dates(order: Any, text: str) -> dict[str, Any]:
    if not isinstance(order, dict):
        raise OrderUnreadableError(f"stored text holds no object but {type(order).__name__}")
    # Looking for one rare character first takes a tenth of the time.
    if "$" in text and '"$date"' in text:
        _read_tagged_dates(order)
    for key, value in order.items():
        if type(value) is str:
            if "T" in value:
                order[key] = _read_iso_date(value)
        elif type(value) is list:
            for fields in value:
                if type(fields) is dict:
                    for name, field in fields.items():
                        if type(field) is str and "T" in field:
                            fields[name] = _read_iso_date(field)
    return order


# Most values are of these types, and hold no datetime that is written as `isoformat()`.
_PLAIN = frozenset({str, int, float, bool, type(None), dict})


def _with_iso_dates(order: dict[str, Any]) -> dict[str, Any]:
    """A copy of the order, as deep as datetimes go that are written as `isoformat()`."""
    # Copied before they are looked through, so that another thread may go on adding to them.
    copy = dict(order)
    for key, value in copy.items():
        if type(value) in _PLAIN:
            continue
        if isinstance(value, datetime):
            copy[key] = value.isoformat()
        elif isinstance(value, (list, tuple)):
            copy[key] = items = list(value)
            for index, item in enumerate(items):
                if isinstance(item, dict):
                    items[index] = fields = dict(item)
                    for name, field in fields.items():
                        if type(field) is not str and isinstance(field, datetime):
                            fields[name] = field.isoformat()
    return copy


def _tag_date(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {"$date": value.isoformat()}
    raise TypeError(type(value).__name__)


_encoder = JSONEncoder(ensure_ascii=False, default=_tag_date)
_decoder = JSONDecoder()

# How many orders are read in one go: enough to share keys, few enough for a processor's cache.
_TOGETHER = 32
# No stored text can hold this, so that none can close an order and open another unnoticed.
_BETWEEN = urandom(16).hex()
_JOINT = f',"{_BETWEEN}",'


def _escape_surrogates(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # Python's escape of a surrogate, \udXXX, is JSON's.
        return text.encode(errors="backslashreplace").decode()
    return text


def _read_iso_date(text: str) -> datetime | str:
    try:
        return _parse(text)
    except ValueError:
        return text


def _read_tagged_dates(order: dict[str, Any]) -> None:
    """Put datetimes where `serialize_order` writes tags, which is nowhere `isoformat()` stands.

    Without recursion, since newer Pythons read JSON that is nested deeper than their own stack.
    """
    containers: list[Any] = []
    for value in order.values():
        if type(value) is list:
            for index, item in enumerate(value):
                if (moment := _tagged_date(item)) is not None:
                    value[index] = moment
                elif type(item) is dict:
                    containers.extend(item.values())
                else:
                    containers.append(item)
        else:
            containers.append(value)
    while containers:
        container = containers.pop()
        members: Any = ()
        if type(container) is dict:
            members = container.items()
        elif type(container) is list:
            members = enumerate(container)
        for step, member in members:
            if (moment := _tagged_date(member)) is not None:
                container[step] = moment
            else:
                containers.append(member)


def _tagged_date(value: Any) -> datetime | None:
    if type(value) is dict and len(value) == 1 and type(iso := value.get("$date")) is str:
        try:
            moment = _parse(iso)
        except ValueError:
            return None
        if moment.isoformat() == iso:
            return moment
    return None


def _culprit(order: dict[Any, Any]) -> str | None:
    """The path to what JSON cannot hold, and why: asked only once the encoder has refused."""
    steps: list[str] = []
    walks = [_members(order)]
    around = [id(order)]
    while walks:
        for step, member, refusal in walks[-1]:
            if id(member) in around:
                refusal = "circular reference"
            if refusal:
                return f"{''.join([*steps, step]).removeprefix('.') or 'order'}: {refusal}"
            if isinstance(member, (dict, list, tuple)):
                steps.append(step)
                walks.append(_members(member))
                around.append(id(member))
                break
        else:
            walks.pop()
            around.pop()
            del steps[-1:]
    return None


def _members(container: Any) -> Iterator[tuple[str, Any, str | None]]:
    """Of each member its step in a path, itself, and why JSON cannot hold it (None: it can)."""
    if not isinstance(container, dict):
        for index, item in enumerate(container):
            yield f"[{index}]", item, _refusal(item)
        return
    for key, value in container.items():
        if not isinstance(key, (str, int, float, type(None))) or _refusal(key):
            yield "", None, f"key of type {type(key).__name__}"
        elif isinstance(key, str) and key.isidentifier():
            yield f".{key}", value, _refusal(value)
        else:
            yield f"[{_escape_surrogates(_encoder.encode(key))}]", value, _refusal(value)


def _refusal(value: object) -> str | None:
    if isinstance(value, (dict, list, tuple)):
        return None
    try:
        _encoder.encode(value)
    except TypeError:
        return type(value).__name__
    except ValueError as error:
        # Python writes no int of more than 4300 digits (sys.set_int_max_str_digits).
        return f"{type(value).__name__}: {error}"
    return None
