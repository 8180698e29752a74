"""`export`: all orders to a file of JSON lines, which `import` reads.

A line is `{"id": "5866", "stored": "{...}", "expires_at": "2025-12-08T11:00:28+00:00"}`: the stored
text to the byte, and the moment at which it expires, null if it never does. A moment rather than a
time to live, since a file gets older.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import BinaryIO

from ..serialization import escape_surrogates
from .stored import NEVER, Stored, opened, pages
from .terminal import orders, print_json, printable, progress

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock

STANDARD = Path("-")
# Where the system has a process's open files.
_OPENED = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
# 9999-12-31T23:59:59Z: a datetime goes no further, a time to live does.
LAST_MOMENT = 253_402_300_799


def export(args: Namespace) -> int:
    """Write all orders to a file.

    A line of JSON for each, with the moment at which it expires; compressed
    when the name ends with .gz. An existing file is replaced once the new one
    is complete. Costs as much as list.

    examples:
      upstash-state export orders.jsonl.gz
      upstash-state export - | ssh backup 'cat > orders.jsonl'
    """
    path: Path = args.file
    count = 0
    with opened() as store, _target(path) as target, progress("exported") as show:
        packed = path.suffix == ".gz"
        with gzip.GzipFile(fileobj=target, mode="wb") if packed else nullcontext(target) as file:
            for page in pages(store):
                now = time()
                for stored in page:
                    file.write(_line(stored, now))
                count += len(page)
                if path != STANDARD or not sys.stdout.isatty():
                    show(count)
    if not _is_standard(path):
        if args.json:
            print_json({"exported": count, "file": str(path)})
        else:
            print(f"{orders(count)} exported to {printable(str(path))}")
    return 0


def _line(stored: Stored, now: float) -> bytes:
    expires_at = None
    if stored.ttl != NEVER:
        moment = datetime.fromtimestamp(min(now + stored.ttl, LAST_MOMENT), timezone.utc)
        expires_at = moment.isoformat(timespec="seconds")
    fields = {"id": stored.order_id, "stored": stored.text, "expires_at": expires_at}
    return escape_surrogates(json.dumps(fields, ensure_ascii=False)).encode() + b"\n"


def _is_standard(path: Path) -> bool:
    """Whether a path is standard output, be it as the file that a shell has opened for that."""
    with suppress(OSError, ValueError):
        return path == STANDARD or os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False


@contextmanager
def _target(path: Path) -> Iterator[BinaryIO]:
    """The file to write; a regular one appears under its name only when it is complete.

    Raises:
        OSError: It cannot be written. The error names the file that was asked for.
    """
    if _is_standard(path):
        yield sys.stdout.buffer
        return
    # What is open already, such as /dev/fd/3, is not to be truncated.
    opened = path.parent in _OPENED or (path.exists() and not path.is_file())
    try:
        with path.open("ab") if opened else _replacing(path) as file:
            yield file
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    final = Path(os.path.realpath(path))
    prefix, suffix = f".{final.name}.", ".partial"
    for left in final.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        # Of an export that was killed. One that goes on holds the lock.
        with suppress(OSError):
            with left.open("rb") as file:
                _lock(file)
            left.unlink()
    # Readable by its owner only: orders hold names and addresses.
    descriptor, name = tempfile.mkstemp(suffix, prefix, final.parent)
    try:
        with open(descriptor, "wb") as file:
            with suppress(OSError):  # Some network file systems have no locks.
                _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Windows replaces no open file.
        os.replace(name, final)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed, or raise OSError. Windows deletes no open file anyway."""
    if sys.platform != "win32":
        flock(file.fileno(), LOCK_EX | LOCK_NB)
