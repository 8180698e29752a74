"""Orders for the demo: a few that ship with it, or a file of them; and as text with tagged dates.

JSON has no datetimes, so where orders are written down with their Python types a datetime is
`{"$date": "..."}`. Reading and writing that is done here anew, so that the demo does not check
`upstash_state.serialization` with itself.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

Order = dict[str, Any]


class Sample(NamedTuple):
    """An order to demonstrate with.

    Attributes:
        order_id: What it is saved under.
        order: The order, with datetimes.
        stored: The text that the TCP module stored it as, None if it never did.
    """

    order_id: str
    order: Order
    stored: str | None = None


class UnusableFileError(Exception):
    """Raised for a file that holds no orders in the expected form. The text names the line."""


def shipped() -> list[Sample]:
    """The orders that ship with the demo. Each has something that is easily lost on the way."""
    noon = datetime(2025, 12, 1, 12, 0, 28, 281388, tzinfo=timezone(timedelta(hours=1)))
    return [
        Sample(
            "5866",
            {
                "name": "dishbee #5866",
                "status": "delivered",
                "customer": {"name": "Zoë Groß", "phone": "+49851199261"},
                "total": "58,68€",
                "created_at": noon,
                "delivered_at": noon + timedelta(minutes=28),
                "status_history": [
                    {"type": "new", "timestamp": noon},
                    {"type": "confirmed", "time": "12:20", "timestamp": noon.replace(minute=2)},
                    {"type": "delivered", "timestamp": noon + timedelta(minutes=28)},
                ],
            },
        ),
        Sample(
            "8191753420076",
            {
                "name": "dishbee #5867",
                "status": "assigned",
                "group_color": "🔴",
                "customer": {"name": "李小龙"},
                "total": 50.07,
                "created_at": noon.replace(tzinfo=None),
                # A webhook's payload comes back as it came in: its dates stay text.
                "payload": {"id": 8191753420076, "created_at": "2025-12-01T12:00:28+01:00"},
                "status_history": [
                    {"type": "new", "timestamp": noon},
                    {"type": "assigned", "user_id": 383910036, "timestamp": noon},
                ],
            },
        ),
        Sample(
            "pickup/7 *",
            {
                "name": "dishbee #5868",
                "status": "new",
                "is_pickup": True,
                "tips": None,
                "note": 'Line one\nline two, "quoted", 100% – with a \\ in it',
                "created_at": noon.astimezone(timezone.utc),
                "vendors": {"Leckerolls": {"ready_at": noon + timedelta(hours=2)}},
            },
        ),
    ]


def from_file(path: Path) -> list[Sample]:
    """Orders of a file with a line of JSON for each: `{"id": …, "stored": …, "restored": …}`.

    Args:
        path: The file. `stored` is an order's text in Redis, `restored` the order that it is read
            as, with its datetimes tagged.

    Raises:
        UnusableFileError: It cannot be read, or not in this form.
    """
    samples: dict[str, Sample] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                sample = _sample(line)
                if sample is None:
                    raise UnusableFileError(
                        f"{path}, line {number}, is not of the form "
                        '{"id": "...", "stored": "...", "restored": {...}}'
                    )
                if sample.order_id in samples:
                    raise UnusableFileError(f"{path}, line {number}: its id came before")
                samples[sample.order_id] = sample
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFileError(f"{path} cannot be read: {error}") from error
    if not samples:
        raise UnusableFileError(f"{path} holds no orders")
    return list(samples.values())


def to_text(order_id: str, order: Order) -> str:
    """A line that `from_text` reads."""
    return json.dumps([order_id, order], default=_tag)


def from_text(line: str) -> tuple[str, Order]:
    """An order's id and the order, as `to_text` was given them."""
    order_id, order = json.loads(line)
    return order_id, _untagged(order)


def _sample(line: str) -> Sample | None:
    try:
        match json.loads(line):
            case {"id": str(order_id), "stored": str(stored), "restored": {**order}}:
                return Sample(order_id, _untagged(order), stored)
    except ValueError:
        pass
    return None


def _tag(value: object) -> object:
    if isinstance(value, datetime):
        return {"$date": value.isoformat()}
    raise TypeError(f"a demo order must not hold {type(value).__name__}")


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$date"}:
            return datetime.fromisoformat(value["$date"])
        return {key: _untagged(member) for key, member in value.items()}
    return value
