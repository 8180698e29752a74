"""`delete`: orders by id, or by age."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import click

from .. import UpstashError
from ..logs import plural
from .list import ordered, read_rows, table
from .params import json_option, seconds, utf8
from .stored import Row, ask, opened, row
from .terminal import ids_from, printable

# The largest number of orders, and of ids that do not exist, to name.
_NAMED = 10
_COLUMNS = ["id", "age", "size", "status", "name"]


@click.command()
@click.argument("ids", type=utf8, nargs=-1, metavar="[ID...]")
@click.option("--older-than", type=seconds, metavar="AGE", help="Such as 45s, 30m, 12h, 2d or 1w.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(
    ids: Sequence[str], older_than: float | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Delete orders.

    Give their ids (- reads ids from standard input, one per line), or a minimum age. By age, an
    order without created_at is kept; a created_at without an offset is in this machine's time zone.
    Without --yes, it shows the orders and asks.

    Costs a command for each order deleted, 2 for each id that is looked up before the question,
    and 2 for each 1,000 orders with --older-than.

    \b
    Examples:
      upstash-state delete 5866 5867
      upstash-state delete --older-than 2d --dry-run
      upstash-state list --columns id --status test | upstash-state delete - --yes
    """
    if bool(ids) == (older_than is not None):
        raise click.UsageError("Give IDs or --older-than, one of the two.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("Standard input is not a terminal to ask in: pass --yes.")
    given = ids_from(ids)
    with opened() as store:
        if older_than is not None:
            cutoff = datetime.now(timezone.utc) - timedelta(seconds=older_than)
            every, _ = read_rows(store)
            rows = ordered([row for row in every if row.created_at and row.created_at < cutoff])
        elif yes and not dry_run:
            rows = [Row(order_id) for order_id in given]
        else:
            asked = ask(store, given, "get", raise_on_error=False)
            rows = [_row(order_id, text) for order_id, [text] in asked if text is not None]
        there = [row.id for row in rows]
        if dry_run or not yes:
            _name(rows, _without(given, there))
        if dry_run:
            said = f"{plural(len(rows))} would be deleted"
            print(json.dumps({"would_delete": there}) if as_json else said)
            return 0
        where = f"{store.client.url}, keys {printable(store.prefix)}*"
        question = f"Delete {plural(len(rows))} from {where}?"
        if rows and not yes and not click.confirm(question, prompt_suffix=" ", err=True):
            print("Nothing deleted.", file=sys.stderr)
            return 1
        deleted = [order_id for order_id, [existed] in ask(store, there, "delete") if existed]
    if as_json:
        print(json.dumps({"deleted": len(deleted), "missing": _without(given, deleted)}))
    else:
        print(f"{plural(len(deleted))} deleted")
        _name([], _without(there, deleted))
    return 0


def _row(order_id: str, text: str | UpstashError) -> Row:
    return row(order_id, text) if isinstance(text, str) else Row(order_id, status="(not an order)")


def _name(rows: Sequence[Row], missing: Sequence[str]) -> None:
    """Name some orders that are there, and some ids of orders that are not."""
    lines = list(table(rows[:_NAMED], _COLUMNS)) if rows else []
    if len(rows) > _NAMED:
        lines.append(f"and {len(rows) - _NAMED:,} more")
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        lines.insert(0, f"not there: {', '.join(map(printable, missing[:_NAMED]))}{more}")
    print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr)


def _without(ids: Sequence[str], others: Sequence[str]) -> list[str]:
    known = set(others)
    return [order_id for order_id in ids if order_id not in known]
