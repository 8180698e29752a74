"""`export`: all orders to a file of JSON lines, which `import` reads.

A line is `{"id": "5866", "stored": "{...}", "expires_at": "2025-12-08T11:00:28+00:00"}`: the stored
text to the byte, and the moment at which it expires, null if it never does. A moment rather than a
time to live, since a file gets older.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import BinaryIO

from ..serialization import escape_surrogates
from ..store import OrderStore
from .stored import NEVER, Stored, pages
from .terminal import Progress, orders, printable

STANDARD = Path("-")
# 9999-12-31T23:59:59Z: a datetime goes no further, a time to live does.
LAST_MOMENT = 253_402_300_799


def export_orders(store: OrderStore, path: Path, *, as_json: bool) -> int:
    """Write all orders to a file, which appears under its name once it is complete.

    Args:
        store: Where to read.
        path: The file; `-` for standard output. An existing one is replaced.
        as_json: Whether to say what was done as JSON.
    """
    count = 0
    with _target(path) as file, Progress("exported") as progress:
        for page in pages(store):
            now = time()
            for stored in page:
                file.write(_line(stored, now))
            count += len(page)
            if path != STANDARD or not sys.stdout.isatty():
                progress.show(count)
    if path != STANDARD:
        where = printable(str(path))
        summary = {"exported": count, "file": str(path)}
        print(json.dumps(summary) if as_json else f"{orders(count)} exported to {where}")
    return 0


def _line(stored: Stored, now: float) -> bytes:
    expires_at = None
    if stored.ttl != NEVER:
        moment = datetime.fromtimestamp(min(now + stored.ttl, LAST_MOMENT), timezone.utc)
        expires_at = moment.isoformat(timespec="seconds")
    fields = {"id": stored.order_id, "stored": stored.text, "expires_at": expires_at}
    return escape_surrogates(json.dumps(fields, ensure_ascii=False)).encode() + b"\n"


@contextmanager
def _target(path: Path) -> Iterator[BinaryIO]:
    """The file to write; unless it is something like a pipe, under its name only when complete."""
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(os.path.realpath(path))
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        with path.open("wb") as file:
            yield file
        return
    # Readable by its owner only: orders hold names and addresses.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
