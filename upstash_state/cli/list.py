"""`list`: the orders in a table, in a pager, in lines for programs, or as JSON."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from math import inf
from typing import Any

import click
from rich.cells import cell_len
from rich.text import Text

from .. import OrderStore
from ..logs import plural
from .params import json_option, utf8
from .stored import GONE, Row, ask, opened, row
from .terminal import console, print_json, printable, progress

#: The columns' names, which are those of `Row`, and their headings.
HEADINGS = dict(zip(Row._fields, ("ID", "CREATED", "AGE", "EXPIRES IN", "BYTES", "STATUS", "NAME")))
COLUMN = click.Choice(list(HEADINGS))
USUAL = [name for name in HEADINGS if name != "created_at"]
_RIGHT = ("age", "ttl", "size")
_GAP = "  "


def _columns(text: str) -> list[str]:
    return [COLUMN.convert(name, None, None) for name in text.split(",")]


@click.command("list")
@click.option(
    "--search", type=utf8, metavar="TEXT", help="Only orders with this text, in any case."
)
@click.option(
    "--status", type=utf8, multiple=True, metavar="S", help="Only this status; repeatable."
)
@click.option("--sort", type=COLUMN, default="age")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=click.IntRange(1, 999_999), metavar="N", help="At most N orders.")
@click.option("--columns", type=_columns, metavar="A,B", help="These columns, in this order.")
@click.option("--header", is_flag=True, help="In a pipe, start with the names of the columns.")
@json_option
def list_orders(
    search: str | None,
    status: Sequence[str],
    sort: str,
    reverse: bool,
    limit: int | None,
    columns: list[str] | None,
    header: bool,
    as_json: bool,
) -> int:
    """List the orders, the youngest first.

    If the terminal is too small, a pager shows them. In a pipe, each order is a line, with tabs
    between id, age in seconds, seconds until it expires (-1: never), bytes, status and name.

    Costs 2 commands for each 1,000 orders, and one for each order shown with the column ttl.

    \b
    Examples:
      upstash-state list --status new --limit 20
      upstash-state list --search margherita
      upstash-state list --columns id,created_at --header > orders.tsv
    """
    names = columns or (list(HEADINGS) if as_json else USUAL)
    with opened() as store:
        rows, total = read_rows(store, search)
        rows = [row for row in rows if not status or row.status in status]
        if sort == "ttl":
            rows = list(_with_ttl(store, rows))
        rows = ordered(rows, sort)[:: -1 if reverse else 1][:limit]
        shown = _with_ttl(store, rows) if "ttl" in names and sort != "ttl" else iter(rows)
        if as_json:
            print_json([{name: row.as_json()[name] for name in names} for row in shown])
        elif sys.stdout.isatty():
            lines = table(rows, names, shown)
            if len(rows) + 2 > console(sys.stdout).height:
                click.echo_via_pager(f"{line}\n" for line in lines)
            else:
                print("\n".join(lines))
            of_all = plural(total) if len(rows) == total else f"{len(rows):,} of {plural(total)}"
            print(f"{of_all}, {plural(sum(row.size for row in rows), 'byte')}")
        else:
            if header:
                print(*names, sep="\t")
            for row in shown:
                fields = row.as_json()
                texts = ("" if fields[name] is None else str(fields[name]) for name in names)
                print(*map(printable, texts), sep="\t")
            if not total:
                # Perhaps the prefix is wrong.
                print(f"0 orders with keys {printable(store.prefix)}*", file=sys.stderr)
    return 0


def read_rows(store: OrderStore, search: str | None = None) -> tuple[list[Row], int]:
    """Read all orders. Costs two commands for each 1,000.

    Args:
        store: The orders.
        search: Text that an order or its id must contain, in any case; None for any.

    Returns:
        What a table shows of each order, and how many orders there are in all.
    """
    rows: list[Row] = []
    total = 0
    needle = (search or "").casefold()
    with progress("read") as show:
        for page in store.iter_texts():
            rows += (row(*pair) for pair in page if needle in "\n".join(pair).casefold())
            total += len(page)
            show(total)
    return rows, total


def ordered(rows: list[Row], column: str = "age") -> list[Row]:
    """Sort orders by a column, then by id. By age or time of creation, the youngest is first."""

    def key(row: Row) -> tuple[Any, str]:
        if column in ("age", "created_at"):
            return -row.created_at.timestamp() if row.created_at else inf, row.id
        return getattr(row, column), row.id

    return sorted(rows, key=key)


def table(
    rows: Sequence[Row], names: Sequence[str], shown: Iterable[Row] | None = None
) -> Iterator[str]:
    """Yield the lines of a table that is no wider than the terminal.

    Each column is as wide as its longest text, but no wider than a quarter of the terminal, except
    for the last one.

    Args:
        rows: The orders.
        names: The columns.
        shown: The same orders, read while the lines are taken.
    """
    headings = [HEADINGS[name] for name in names]
    columns = zip(headings, *map(partial(_cells, names), rows))
    width = console(sys.stdout).width
    limits = [width // 4] * (len(names) - 1) + [width]
    widths = [min(max(map(cell_len, column)), limit) for column, limit in zip(columns, limits)]
    for line in chain([headings], map(partial(_cells, names), shown or rows)):
        parts = [Text(text, overflow="ellipsis") for text in line]
        for part, name, cells in zip(parts, names, widths):
            part.align("right" if name in _RIGHT else "left", cells)
        whole = Text(_GAP.join(part.plain for part in parts).rstrip())
        whole.truncate(width, overflow="ellipsis")
        yield whole.plain


def _cells(names: Sequence[str], row: Row) -> list[str]:
    fields = row.as_text()
    return [printable(fields[name]) for name in names]


def _with_ttl(store: OrderStore, rows: Sequence[Row]) -> Iterator[Row]:
    asked = ask(store, [row.id for row in rows], "ttl")
    return (row._replace(ttl=ttl) for row, (_, [ttl]) in zip(rows, asked) if ttl != GONE)
