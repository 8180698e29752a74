"""`show`, `count` and `delete`: single orders, and what need not be there."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from datetime import datetime, timedelta, timezone

from ..bulk import MOST_COMMANDS
from ..store import OrderStore
from .listing import table
from .stored import NEVER, Row, Stored, opened, read
from .terminal import complain, confirm, ids_from, orders, print_json, printable

# How many of the orders that are going to be deleted are shown, and of the ids that are not there.
SHOWN = 10
_COLUMNS = ["id", "age", "size", "status", "name"]


def show(args: Namespace) -> int:
    """Show orders.

    Costs 2 commands for each. With --json one order is an object; several, or
    those of ids from standard input, are an array.

    examples:
      upstash-state show 5866
      upstash-state list --columns id --status new | upstash-state show -
    """
    ids = ids_from(args.ids)
    with opened() as store:
        found = read(store, ids)
    documents = []
    well = True
    for order_id in ids:
        stored = found.get(order_id)
        if isinstance(stored, Stored):
            content = stored.content()
            row = stored.row()
            documents.append(row.as_json() | content)
            if not args.json:
                _print_order(row, stored, content)
            if "order" in content:
                continue
            complain(f"order {order_id}: what is stored is not an order in JSON")
        elif stored is None:
            complain(f"there is no order {order_id}")
        else:
            complain(f"order {order_id}: its key cannot be read as an order: {stored}")
        well = False
    if args.json and args.ids == ids and len(ids) == 1:
        if documents:
            print_json(documents[0])
    elif args.json:
        print_json(documents)
    return 0 if well else 1


def count(args: Namespace) -> int:
    """Count the orders.

    Costs a command for each 10,000 keys of the database.
    """
    with opened() as store:
        number = store.count()
    print(json.dumps({"orders": number}) if args.json else number)
    return 0


def delete(args: Namespace) -> int:
    """Delete orders.

    By id, or those created longer ago than an age; an order without created_at
    is then kept, and a created_at without an offset is in this machine's time
    zone. Shows what it is going to delete, and asks, unless there is --yes.
    Costs a command for each order deleted, 2 for each id looked up, and 2 for
    each 1,000 orders read.

    examples:
      upstash-state delete 5866 5867
      upstash-state delete --older-than 2d --yes
      upstash-state list --columns id --status test | upstash-state delete - --yes
    """
    if bool(args.ids) == (args.older_than is not None):
        args.command.error("give IDs or --older-than, one of the two")
    if not args.yes and not sys.stdin.isatty():
        args.command.error("stdin is not a terminal, so nobody can confirm: pass --yes")
    ids = ids_from(args.ids)
    with opened() as store:
        cutoff = datetime.now(timezone.utc) - timedelta(seconds=args.older_than or 0)
        if not args.yes:
            rows = _by_id(store, ids) if ids else _older(store, cutoff)
            there = [row.id for row in rows]
            _name_missing(ids, there)
            if rows and not _confirmed(store, rows):
                return 1
            ids = ids and there
        there = _delete(store, ids) if args.ids else store.delete_older_than(cutoff)
    if args.json:
        print(json.dumps({"deleted": len(there), "missing": [i for i in ids if i not in there]}))
    else:
        print(f"{orders(len(there))} deleted")
        _name_missing(ids, there)
    return 0


def _print_order(row: Row, stored: Stored, content: dict[str, object]) -> None:
    fields = row.as_text()
    ago = "" if row.age is None else f" ({fields['age']} ago)"
    text = stored.text
    if "order" in content:
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    print(f"id          {printable(row.id)}")
    print(f"created     {fields['created_at']}{ago}")
    print(f"expires in  {fields['ttl']}")
    print(f"size        {fields['size']} bytes\n")
    print("\n".join(map(printable, text.split("\n"))))


def _by_id(store: OrderStore, ids: list[str]) -> list[Row]:
    foreign = Row("", None, None, NEVER, 0, "(not an order)", "")
    found = read(store, ids).items()
    return [s.row() if isinstance(s, Stored) else foreign._replace(id=i) for i, s in found]


def _older(store: OrderStore, cutoff: datetime) -> list[Row]:
    rows = (Stored(*pair, NEVER).row() for page in store.iter_texts() for pair in page)
    old = [row for row in rows if row.created_at is not None and row.created_at < cutoff]
    return sorted(old, key=lambda row: row.age or 0, reverse=True)


def _confirmed(store: OrderStore, rows: list[Row]) -> bool:
    lines = table(rows[:SHOWN], _COLUMNS)[:-1]
    if len(rows) > SHOWN:
        lines.append(f"and {len(rows) - SHOWN:,} more")
    print("\n".join(lines), file=sys.stderr)
    return confirm(f"Delete {orders(len(rows))} from {store.client.url}, keys {store.prefix}*?")


def _name_missing(ids: list[str], there: list[str]) -> None:
    missing = [printable(order_id) for order_id in ids if order_id not in there]
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        print(f"not there: {', '.join(missing[:SHOWN])}{more}", file=sys.stderr)


def _delete(store: OrderStore, ids: list[str]) -> list[str]:
    """Delete orders, and give the ids of those that were there."""
    there: list[str] = []
    for begin in range(0, len(ids), MOST_COMMANDS):
        batch = ids[begin : begin + MOST_COMMANDS]
        pipeline = store.client.pipeline(transaction=False)
        for order_id in batch:
            pipeline.delete(store.key(order_id))
        there += (order_id for order_id, count in zip(batch, pipeline.execute()) if count)
    return there
