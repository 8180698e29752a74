"""`list`: the orders in a table, in lines for programs, or watched."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError, Namespace
from datetime import datetime, timezone
from logging import getLogger
from shutil import get_terminal_size
from typing import NoReturn

from ..errors import UpstashError
from ..store import OrderStore
from . import terminal
from .stored import Row, opened, pages
from .terminal import cells, fit, printable

#: The columns' names, which are those of `Row`, and their headings.
HEADINGS = dict(zip(Row._fields, ("ID", "CREATED", "AGE", "EXPIRES IN", "BYTES", "STATUS", "NAME")))
USUAL = [name for name in HEADINGS if name != "created_at"]
_RIGHT = ("age", "ttl", "size")
_LONGEST_STATUS = 16
# What a column is cut down to, if need be, before the line's end is cut off.
_NARROWEST = 8
_GAP = "  "
_EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
# More than that between two looks: it was saved again, be it with the same text.
_LATER = 5
# Where in a row begins what does not change with time.
_CONTENT = Row._fields.index("size")


def list_orders(args: Namespace) -> int:
    """List the orders, the youngest first.

    In a pipe: a line for each, with tabs between id, age in seconds, seconds
    until it expires (-1: never), bytes, status, name. Costs a command for each
    order, and two for each 1,000; with --watch again at each look.

    examples:
      upstash-state list --status new --limit 20
      upstash-state list --columns id,created_at --header > orders.tsv
      upstash-state list --watch 30
    """
    if args.watch is not None and (args.json or not sys.stdout.isatty()):
        args.command.error("--watch needs a terminal, and does not go with --json")
    with opened() as store:
        if args.watch is not None:
            return _watch(store, args)
        rows = _rows(store, args)[: args.limit]
        names = args.columns or USUAL
        if args.json:
            every = args.columns or HEADINGS
            terminal.print_json([{name: row.as_json()[name] for name in every} for row in rows])
        elif sys.stdout.isatty():
            print("\n".join(table(rows, names)))
        else:
            if args.header:
                print(*names, sep="\t")
            for row in rows:
                fields = row.as_json()
                shown = ("" if fields[name] is None else str(fields[name]) for name in names)
                print(*map(printable, shown), sep="\t")
    return 0


def columns_named(text: str) -> list[str]:
    """Read names of columns with commas between."""
    names = text.split(",")
    for name in names:
        if name not in HEADINGS:
            raise ArgumentTypeError(f"{name!r} is not a column: {', '.join(HEADINGS)}")
    return names


def table(rows: list[Row], names: list[str], width: int | None = None) -> list[str]:
    """Lines of a table that are no wider than the terminal, and a last one that sums up.

    Args:
        rows: The orders.
        names: The columns.
        width: How many cells a line may have, None for those of the terminal.
    """
    width = get_terminal_size().columns if width is None else width
    lines = [[HEADINGS[name] for name in names]]
    for row in rows:
        fields = row.as_text() | {"status": fit(printable(row.status), _LONGEST_STATUS)}
        lines.append([printable(fields[name]) for name in names])
    widths = [max(map(cells, column)) for column in zip(*lines)]
    for name in ("name", "id", "status"):
        if name in names:
            over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
            narrower = widths[names.index(name)] - _NARROWEST
            widths[names.index(name)] -= max(0, min(over, narrower))
    shown = []
    for line in lines:
        parts = [fit(text, cell_count) for text, cell_count in zip(line, widths)]
        for index, name in enumerate(names):
            padding = " " * (widths[index] - cells(parts[index]))
            parts[index] = padding + parts[index] if name in _RIGHT else parts[index] + padding
        shown.append(fit(_GAP.join(parts).rstrip(), width))
    total = f"{terminal.orders(len(rows))}, {sum(row.size for row in rows):,} bytes"
    return [*shown, fit(total, width)]


def _rows(store: OrderStore, args: Namespace) -> list[Row]:
    rows: list[Row] = []
    count = 0
    with terminal.progress("read") as show:
        for page in pages(store):
            rows += (stored.row() for stored in page)
            count += len(page)
            show(count)
    if args.status:
        rows = [row for row in rows if row.status in args.status]
    rows.sort(key=lambda row: row.id)
    # The youngest first: who looks has just seen it come in.
    young = args.sort in ("age", "created_at")
    rows.sort(
        key=lambda row: (row.created_at or _EARLIEST) if young else getattr(row, args.sort),
        reverse=young,
    )
    return rows[::-1] if args.reverse else rows


def _watch(store: OrderStore, args: Namespace) -> int:
    # What goes wrong stands in the last line; log lines would be drawn over the table.
    log = getLogger("upstash_state")
    log.disabled = True
    try:
        return _redraw(store, args)
    except KeyboardInterrupt:
        print()
        return 0
    finally:
        log.disabled = False


def _redraw(store: OrderStore, args: Namespace) -> NoReturn:
    before: dict[str, Row] | None = None
    marks: dict[str, tuple[str, str]] = {}
    while True:
        try:
            rows = {row.id: row for row in _rows(store, args)}
            marks, said = _changes(rows if before is None else before, rows)
            before, problem = rows, ""
        except UpstashError as error:
            problem = f"not read: {printable(str(error))}"
        # Only now: meanwhile the terminal may have become another size.
        width, height = get_terminal_size()
        shown = list((before or {}).values())[: args.limit]
        *lines, total = table(shown, args.columns or USUAL, width - 2)
        for index, row in enumerate(shown, 1):
            mark, colour = marks.get(row.id, (" ", ""))
            lines[index] = terminal.coloured(f"{mark} {lines[index]}", colour)
        lines[0] = f"  {lines[0]}"
        screen = "\n".join(lines[: max(height - 2, 1)])
        last = fit(f"{datetime.now():%H:%M:%S}  {problem or total + said}", width)
        print(f"\x1b[H\x1b[J{screen}\n\n{last}", end="", flush=True)
        time.sleep(args.watch)


def _changes(
    before: dict[str, Row], rows: dict[str, Row]
) -> tuple[dict[str, tuple[str, str]], str]:
    """The marks of rows that are new or changed, with their colours; and what is said of it."""
    new = [order_id for order_id in rows if order_id not in before]
    gone = [order_id for order_id in before if order_id not in rows]
    changed = [
        order_id
        for order_id, row in rows.items()
        if (old := before.get(order_id))
        and (row.ttl > old.ttl + _LATER or row[_CONTENT:] != old[_CONTENT:])
    ]
    said = "".join(
        f"; {len(ids):,} {what}: {', '.join(map(printable, ids))}"
        for what, ids in (("new", new), ("changed", changed), ("gone", gone))
        if ids
    )
    marks = dict.fromkeys(new, ("+", terminal.GREEN))
    return marks | dict.fromkeys(changed, ("*", terminal.YELLOW)), said
