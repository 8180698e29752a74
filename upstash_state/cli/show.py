"""`show` and `count`."""

import json
from collections.abc import Sequence
from typing import Any

import click

from .. import UpstashError
from ..logs import plural
from .params import json_option, utf8
from .stored import Row, ask, content, opened, pretty, row
from .terminal import complain, ids_from, print_json, printable


@click.command()
@click.argument("ids", type=utf8, nargs=-1, required=True, metavar="ID...")
@json_option
def show(ids: Sequence[str], as_json: bool) -> int:
    """Show orders in full.

    The ID - reads ids from standard input, one per line. With --json, one order is an object;
    several orders, or those of -, are an array. Costs 2 commands for each order.

    \b
    Examples:
      upstash-state show 5866
      upstash-state list --columns id --status new | upstash-state show -
    """
    documents = []
    status = 0
    several = len(ids) > 1 or "-" in ids
    with opened() as store:
        asked = ask(store, ids_from(ids), "get", "ttl", raise_on_error=False)
        for order_id, [text, *ttl] in asked:
            if text is None:
                complain(f"there is no order {order_id}")
            elif isinstance(text, UpstashError):
                complain(f"order {order_id}: its key cannot be read as an order: {text}")
            else:
                shown, order = row(order_id, text, *ttl), content(text)
                documents.append(shown.as_json() | order)
                if not as_json:
                    _print_order(shown, order)
                if "order" in order:
                    continue
                complain(f"order {order_id}: its stored text is not an order in JSON")
            status = 1
    if as_json and (several or documents):
        print_json(documents if several else documents[0])
    return status


@click.command()
@json_option
def count(as_json: bool) -> int:
    """Count the orders.

    Costs a command for each 10,000 keys of the database.

    \b
    Example:
      upstash-state count
    """
    with opened() as store:
        number = store.count()
    print(json.dumps({"orders": number}) if as_json else number)
    return 0


def _print_order(row: Row, order: dict[str, Any]) -> None:
    fields = row.as_text()
    ago = "" if row.age is None else f" ({fields['age']} ago)"
    print(f"id          {printable(row.id)}")
    print(f"created     {fields['created_at']}{ago}")
    print(f"expires in  {fields['ttl']}")
    print(f"size        {plural(row.size, 'byte')}\n")
    print("\n".join(map(printable, pretty(order).split("\n"))))
