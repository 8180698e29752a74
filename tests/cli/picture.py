"""Make the picture of `browse` in the README of the command line: `python -m tests.cli.picture`."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tests.support.browser import browser
from upstash_state import OrderStore, UpstashRedis
from upstash_state.cli import browse
from upstash_state.local import LocalEndpoint

STATUSES = ("new", "confirmed", "in the oven", "on its way", "delivered", "delivered")
ITEMS = ("Margherita", "Funghi", "Quattro stagioni", "Diavola", "Calzone", "Marinara")


def main() -> None:
    """Serve some orders, open the page, click on one, and write the picture."""
    now = datetime.now(timezone.utc)
    with (
        LocalEndpoint() as endpoint,
        UpstashRedis(endpoint.url, endpoint.token) as client,
        browse.Server(OrderStore(client)) as server,
        browser() as window,
    ):
        for number in range(12):
            created = now - timedelta(minutes=7 * number + 2)
            item = {"name": ITEMS[number % 6], "quantity": number % 3 + 1}
            status = STATUSES[min(number // 2, 5)]
            history = [{"status": "new", "at": created}, {"status": status, "at": now}]
            order = {
                "name": f"#{40 - number}",
                "status": status,
                "created_at": created,
                "items": [item],
                "status_history": history[: 1 + (status != "new")],
            }
            OrderStore(client).save(str(5880 - number), order)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            window.open(server.origin + server.path)
            window.wait("document.querySelectorAll('tbody tr').length === 12")
            window.run("document.querySelectorAll('tbody tr')[4].click()")
            Path(browse.__file__).with_name("browse.png").write_bytes(window.picture())
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    main()
