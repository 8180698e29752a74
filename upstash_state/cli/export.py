"""`export`: write all orders to a file of JSON lines, which `import` reads.

A line is `{"id": "5866", "stored": "{...}", "expires_at": "2025-12-08T11:00:28+00:00"}`: the exact
stored text, and the moment at which it expires (null: never). A TTL would become wrong as the file
gets older.
"""

import glob
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from pathlib import Path
from time import time
from typing import BinaryIO

import click

from ..logs import plural
from ..serialization import escape_surrogates
from .params import json_option
from .stored import GONE, NEVER, ask, opened
from .terminal import print_json, printable, progress

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, flock

STANDARD = Path("-")
# Folders in which the system shows the files that a process has opened.
_OPENED = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
# 9999-12-31T23:59:59Z, the last moment that a datetime can hold.
LAST_MOMENT = 253_402_300_799


@click.command()
@click.argument("file", type=Path)
@json_option
def export(file: Path, as_json: bool) -> int:
    """Write all orders to a file.

    Each is a line of JSON with the moment at which it expires. The file is compressed if its name
    ends in .gz, and replaces an existing one when it is complete. - stands for standard output.

    Costs a command for each order, and 2 for each 1,000.

    \b
    Examples:
      upstash-state export orders.jsonl.gz
      upstash-state export - | ssh backup 'cat > orders.jsonl'
    """
    count = 0
    seen = file != STANDARD or not sys.stdout.isatty()
    with opened() as store, _target(file) as target, progress("exported", seen) as show:
        packed = file.suffix == ".gz"
        with gzip.GzipFile(fileobj=target, mode="wb") if packed else nullcontext(target) as out:
            for page in store.iter_texts():
                texts = dict(page)
                for order_id, [ttl] in ask(store, texts, "ttl"):
                    if ttl != GONE:
                        out.write(_line(order_id, texts[order_id], ttl))
                        count += 1
                show(count)
    if as_json and not _is_standard(file):
        print_json({"exported": count, "file": str(file)})
    elif not _is_standard(file):
        print(f"{plural(count)} exported to {printable(str(file))}")
    return 0


def _line(order_id: str, text: str, ttl: int) -> bytes:
    moment = None
    if ttl != NEVER:
        # Redis has rounded the TTL to seconds.
        expires_at = min(round(time() + ttl), LAST_MOMENT)
        moment = datetime.fromtimestamp(expires_at, timezone.utc).isoformat()
    fields = {"id": order_id, "stored": text, "expires_at": moment}
    return escape_surrogates(json.dumps(fields, ensure_ascii=False)).encode() + b"\n"


def _is_standard(path: Path) -> bool:
    """Return whether a path is standard output, or the file that the shell opened for it."""
    with suppress(OSError, ValueError):
        return path == STANDARD or os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    return False


@contextmanager
def _target(path: Path) -> Iterator[BinaryIO]:
    """Open the file to write. A regular file appears under its name when it is complete.

    Raises:
        OSError: It cannot be written. The error names the file that the user gave.
    """
    if _is_standard(path):
        yield sys.stdout.buffer
        return
    # A file that was opened before, such as /dev/fd/3, must not be truncated.
    opened = path.parent in _OPENED or (path.exists() and not path.is_file())
    try:
        with path.open("ab") if opened else _replacing(path) as file:
            yield file
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    # Not click's atomic file, which replaces the old file after an error, too.
    final = Path(os.path.realpath(path))
    prefix, suffix = f".{final.name}.", ".partial"
    for left in final.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
        # A killed export left it. An export that is still running holds the lock.
        with suppress(OSError):
            # Opening a FIFO would block until somebody writes to it.
            if left.is_file():
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
        # After the file is closed, because Windows does not replace an open file.
        os.replace(name, final)
    finally:
        Path(name).unlink(missing_ok=True)


def _lock(file: BinaryIO) -> None:
    """Lock a file until it is closed, or raise OSError. Windows does not delete an open file."""
    if sys.platform != "win32":
        flock(file.fileno(), LOCK_EX | LOCK_NB)
