"""`list`, `show`, `count` and `delete`: what is in the backup, and what need not be."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ..store import OrderStore
from .stored import NEVER, Stored, created_at, delete, order_in, pages, read
from .terminal import Progress, UsageError, confirm, duration, orders, printable


class Row(NamedTuple):
    """What is said of an order in a list.

    Attributes:
        id: Its id.
        created_at: When it was created, None if it does not say.
        ttl: Seconds until it expires, -1 if it never does.
        size: Bytes of its stored text.
        status: Its status, "" if it has none.
        name: Its name, "" if it has none.
    """

    id: str
    created_at: datetime | None
    ttl: int
    size: int
    status: str
    name: str

    def age(self, now: datetime) -> int | None:
        """Seconds since it was created, None if it does not say when."""
        return None if self.created_at is None else int((now - self.created_at).total_seconds())


def list_orders(store: OrderStore, *, as_json: bool) -> int:
    """Print a line for each order, the youngest first: aligned in a terminal, otherwise with tabs
    between, durations in seconds and sizes in bytes."""
    rows: list[Row] = []
    with Progress("read") as progress:
        for page in pages(store):
            rows += map(_row, page)
            progress.show(len(rows))
    earliest = datetime.min.replace(tzinfo=timezone.utc)
    rows.sort(key=lambda row: row.id)
    rows.sort(key=lambda row: row.created_at or earliest, reverse=True)
    now = datetime.now(timezone.utc)
    if as_json:
        print(json.dumps([_as_json(row, now) for row in rows], indent=2))
    elif sys.stdout.isatty():
        _print_table(rows, now)
    else:
        for row in rows:
            age = row.age(now)
            fields = (row.id, "" if age is None else age, row.ttl, row.size, row.status, row.name)
            print("\t".join(printable(str(field)) for field in fields))
    return 0


def show(store: OrderStore, order_id: str, *, as_json: bool) -> int:
    """Print one order, datetimes as they are stored."""
    stored = read(store, order_id)
    if stored is None:
        print(f"upstash-state: there is no order {printable(order_id)}", file=sys.stderr)
        return 1
    row = _row(stored)
    now = datetime.now(timezone.utc)
    readable = order_in(stored.text) is not None
    if as_json:
        content = {"order": json.loads(stored.text)} if readable else {"stored": stored.text}
        print(json.dumps(_as_json(row, now) | content, indent=2))
    else:
        print(f"id          {printable(row.id)}")
        print(f"created     {_created(row, now)}")
        print(f"expires in  {_expires_in(row.ttl)}")
        print(f"size        {row.size:,} bytes\n")
        text = stored.text
        if readable:
            text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
        print("\n".join(map(printable, text.split("\n"))))
    if not readable:
        print("upstash-state: what is stored is no order in JSON", file=sys.stderr)
    return 0 if readable else 1


def count(store: OrderStore, *, as_json: bool) -> int:
    """Print how many orders there are."""
    number = store.count()
    print(json.dumps({"orders": number}) if as_json else number)
    return 0


def delete_orders(
    store: OrderStore, order_ids: list[str], *, where: str, yes: bool, as_json: bool
) -> int:
    """Delete orders by id. `where` is what a person is told of the database when asked."""
    wanted = list(dict.fromkeys(order_ids))
    _refuse_without_terminal(yes)
    named = printable(wanted[0]) if len(wanted) == 1 else orders(len(wanted))
    if not yes and not confirm(f"Delete {named} from {where}?"):
        return _declined()
    deleted = sum(delete(store, wanted))
    if as_json:
        print(json.dumps({"deleted": deleted, "missing": len(wanted) - deleted}))
    else:
        missing = f"; {len(wanted) - deleted:,} not there" if deleted < len(wanted) else ""
        print(f"{orders(deleted)} deleted{missing}")
    return 0


def delete_older(store: OrderStore, age: timedelta, *, where: str, yes: bool, as_json: bool) -> int:
    """Delete orders that were created longer ago. One that does not say when is kept."""
    _refuse_without_terminal(yes)
    now = datetime.now(timezone.utc)
    old: list[str] = []
    younger = undated = 0
    with Progress("read") as progress:
        for page in store.iter_texts():
            for order_id, text in page:
                moment = created_at(order_in(text))
                if moment is None:
                    undated += 1
                elif now - moment > age:
                    old.append(order_id)
                else:
                    younger += 1
            progress.show(len(old) + younger + undated)
    kept = f"{younger:,} younger kept, {undated:,} without created_at kept"
    question = f"Delete {orders(len(old))} from {where}? ({kept})"
    if old and not yes and not confirm(question):
        return _declined()
    deleted = 0
    with Progress("deleted") as progress:
        for number in delete(store, old):
            deleted += number
            progress.show(deleted)
    if as_json:
        kinds = {"deleted": deleted, "younger": younger, "without_created_at": undated}
        print(json.dumps(kinds))
    else:
        print(f"{orders(deleted)} deleted, {kept}")
    return 0


def _row(stored: Stored) -> Row:
    order = order_in(stored.text)
    return Row(
        stored.order_id,
        created_at(order),
        stored.ttl,
        len(stored.text.encode(errors="replace")),
        "(unreadable)" if order is None else _text(order.get("status")),
        "" if order is None else _text(order.get("name")),
    )


def _text(value: object) -> str:
    return str(value) if isinstance(value, (str, int, float)) else ""


def _as_json(row: Row, now: datetime) -> dict[str, object]:
    moment = row.created_at
    created = None if moment is None else moment.isoformat()
    return {**row._asdict(), "created_at": created, "age": row.age(now)}


def _expires_in(ttl: int) -> str:
    return "never" if ttl == NEVER else duration(ttl)


def _created(row: Row, now: datetime) -> str:
    age = row.age(now)
    if row.created_at is None or age is None:
        return "it does not say"
    return f"{row.created_at.isoformat()} ({duration(age)} ago)"


def _print_table(rows: list[Row], now: datetime) -> None:
    cells = [("ID", "AGE", "EXPIRES IN", "BYTES", "STATUS", "NAME")]
    for row in rows:
        age = row.age(now)
        cells.append(
            (
                printable(row.id),
                "-" if age is None else duration(age),
                _expires_in(row.ttl),
                f"{row.size:,}",
                printable(row.status),
                printable(row.name),
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells)]
    terminal = shutil.get_terminal_size().columns
    for order_id, age_cell, expires_in, size, status, name in cells:
        line = (
            f"{order_id:{widths[0]}}  {age_cell:>{widths[1]}}  {expires_in:>{widths[2]}}  "
            f"{size:>{widths[3]}}  {status:{widths[4]}}  {name}"
        )
        print(line.rstrip()[:terminal])
    print(f"{orders(len(rows))}, {sum(row.size for row in rows):,} bytes")


def _refuse_without_terminal(yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody can be asked here, since this is no terminal: add --yes")


def _declined() -> int:
    print("Nothing deleted.", file=sys.stderr)
    return 1
