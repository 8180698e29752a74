"""Orders for the demo: a few that ship with it, or a file of them.

JSON has no datetimes, so where orders are written down with their Python types a datetime is
`{"$date": "..."}`. Reading that is done here anew, so that the demo does not check
`upstash_state.serialization` with itself.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ...serialization import deserialize_order
from ..terminal import ToolError

Order = dict[str, Any]


class Sample(NamedTuple):
    """An order to demonstrate with.

    Attributes:
        order_id: What it is saved under.
        order: The order, with datetimes.
        stored: The text that it was stored as.
    """

    order_id: str
    order: Order
    stored: str


def shipped() -> list[Sample]:
    """The orders that ship with the demo. Each has something that is easily lost on the way."""
    return from_file(Path(__file__).with_name("orders.jsonl"))


def from_file(path: Path) -> list[Sample]:
    """Orders of a file with a line of JSON for each: `{"id": …, "stored": …, "restored": …}`.

    Args:
        path: The file. `stored` is an order's text in Redis, `restored` the order that it is read
            as, with its datetimes tagged.

    Raises:
        ToolError: It cannot be read, or not in this form.
    """
    samples: dict[str, Sample] = {}
    number = 0
    try:
        for number, line in enumerate(path.read_bytes().rstrip().split(b"\n"), 1):
            fields = json.loads(line.decode(), object_hook=_dates)
            sample = Sample(fields["id"], fields["restored"], fields["stored"])
            if sample.order_id in samples:
                raise ToolError(f"{path}, line {number}: its id came before")
            if repr(deserialize_order(sample.stored)) != repr(sample.order):
                raise ToolError(f"{path}, line {number}: its stored text reads otherwise")
            samples[sample.order_id] = sample
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError):
        form = '{"id": "...", "stored": "...", "restored": {...}}'
        raise ToolError(f"{path}, line {number}, is not of the form {form}") from None
    return list(samples.values())


def _dates(members: Order) -> Order | datetime:
    return datetime.fromisoformat(members["$date"]) if members.keys() == {"$date"} else members
