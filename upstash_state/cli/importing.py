"""`import`: orders from a file of JSON lines, in the form of `exporting`, to Redis."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from io import BufferedReader
from math import inf
from pathlib import Path
from time import time
from typing import BinaryIO, NamedTuple, cast

from ..bulk import MOST_COMMANDS, TOO_LARGE, Requests, set_size
from ..errors import KeyTooLargeError, RecordTooLargeError, UpstashError
from ..serialization import deserialize_order
from ..store import OrderStore
from .exporting import STANDARD
from .stored import NEVER, opened
from .terminal import ToolError, complain, orders, progress

_SAID = {"already_there": "already there", "newer": "newer in Redis"}
# Redis rounds a time to live to seconds, and so does the file.
ROUNDING = 2
# Orders that are compared with Redis before it is said how far the import is.
CHUNK = 1000
# Three times what a request may have on most plans: JSON in JSON has its quotes escaped.
LONGEST_LINE = 32 * 1024 * 1024
# Upstash's limit. Others refuse all that is asked for together with such a key, too.
LONGEST_KEY = 32 * 1024

_BROKEN = (KeyTooLargeError, RecordTooLargeError, *TOO_LARGE)


def import_orders(args: Namespace) -> int:
    """Read orders from a file that export has written.

    Each expires when it would have; one without expires_at as a newly saved
    order does. One that Redis holds in another form is overwritten if it
    expires, so was saved, before the file's; otherwise it is newer, and kept.
    After an interruption run it again. Costs a command for each order written
    and for each 500, and one for each that Redis holds in another form.

    examples:
      upstash-state import orders.jsonl.gz
      ssh backup cat orders.jsonl | upstash-state import -
    """
    with opened() as store, _file(args.file) as file, progress("imported") as show:
        work = Import(store, force=args.force, show=show)
        try:
            work.run(file)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f" after {orders(work.total())}: run it again, it goes on where it was"
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ToolError(
                f"{args.file} is cut off or damaged after {orders(work.total())}: {error}"
            ) from None
    if args.json:
        print(json.dumps(work.counts))
    else:
        said = (f"{n:,} {_SAID.get(kind, kind)}" for kind, n in work.counts.items() if n)
        print(f"{orders(work.total())}: {', '.join(said) or 'nothing to do'}")
        if work.counts["newer"]:
            print("What is newer in Redis was kept; --force overwrites it.", file=sys.stderr)
    return 1 if work.counts["newer"] or work.counts["broken"] else 0


class _Line(NamedTuple):
    number: int
    key: str
    text: str
    #: When it expires, infinite for never.
    expires_at: float
    #: Whether the file says so.
    dated: bool

    def size(self) -> int:
        """At most so many bytes in the body of a pipeline."""
        return set_size(self.key, self.text)


class Import:
    """One import. May be run again after it was interrupted: what is there already is left alone.

    An order in Redis that differs from the file's is overwritten if it expires before the file's
    does: each save sets the expiry anew, so it was saved before, as long as UPSTASH_STATE_TTL was
    the same. Otherwise it counts as newer, also where one of the two does not say.

    Of two lines with the same id, the one that expires later counts, and of equals the first.

    Args:
        store: Where to write.
        force: Whether to overwrite newer orders.
        show: Shows how far it is.
    """

    def __init__(self, store: OrderStore, *, force: bool, show: Callable[[int], None]) -> None:
        self._store = store
        self._force = force
        self._show = show
        self._requests = Requests(MOST_COMMANDS, _Line.size)
        self._seen: dict[str, float] = {}
        #: What became of the lines.
        self.counts = dict.fromkeys(
            ("written", "already_there", "expired", "newer", "duplicate", "broken"), 0
        )

    def total(self) -> int:
        """How many lines have been dealt with."""
        return sum(self.counts.values())

    def run(self, file: BinaryIO) -> None:
        """Import a file's lines.

        Raises:
            UpstashError: Redis could not be asked, or refused. The lines before may be imported.
        """
        for chunk in _chunks(self._readable(file)):
            for line, became in self._requests.run(chunk, self._write):
                if isinstance(became, _BROKEN):
                    self._broken(line.number, str(became))
                elif isinstance(became, UpstashError):
                    raise became
                else:
                    self.counts[became] += 1
            self._show(self.total())

    def _readable(self, file: BinaryIO) -> Iterator[_Line]:
        for number, raw in enumerate(_lines(file), 1):
            if not raw.strip():
                continue
            try:
                line = self._parse(number, raw)
            except (ValueError, RecursionError, UpstashError) as error:
                self._broken(number, str(error))
                continue
            if line.expires_at <= self._seen.get(line.key, -inf) + ROUNDING:
                self.counts["duplicate"] += 1
            else:
                self._seen[line.key] = line.expires_at
                yield line

    def _parse(self, number: int, raw: bytes) -> _Line:
        if len(raw) > LONGEST_LINE:
            raise ValueError(f"it is longer than {LONGEST_LINE:,} bytes")
        # Editors on Windows begin a file with a mark (U+FEFF).
        match fields := json.loads(raw.decode("utf-8-sig")):
            case {"id": str(order_id), "stored": str(text)}:
                key = self._store.key(order_id)
            case _:
                raise ValueError("it is not a JSON object whose id and stored are text")
        text.encode()  # What UTF-8 cannot carry cannot be sent.
        if len(key.encode()) > LONGEST_KEY:
            raise ValueError(f"its key is longer than {LONGEST_KEY:,} bytes")
        deserialize_order(text)
        moment = fields.get("expires_at", ...)
        dated = isinstance(moment, str)
        expires_at = _timestamp(moment) if moment is not ... else time() + self._store.ttl
        return _Line(number, key, text, expires_at, dated)

    def _broken(self, number: int, reason: str) -> None:
        self.counts["broken"] += 1
        complain(f"line {number} not imported: {reason}")

    def _write(self, batch: list[_Line]) -> list[str | UpstashError]:
        """Write what is to be written of a batch, and say what became of each line."""
        there = self._store.client.mget([line.key for line in batch])
        newer = set() if self._force else self._newer(batch, there)
        pipeline = self._store.client.pipeline(transaction=False)
        became: list[str | UpstashError] = []
        for line, text in zip(batch, there):
            left = None if line.expires_at == inf else int(line.expires_at - time())
            if text == line.text:
                became.append("already_there")
            elif left is not None and left <= 0:
                became.append("expired")
            elif line.number in newer:
                became.append("newer")
            else:
                # nx: what the app has saved since the MGET is newer, too.
                pipeline.set(line.key, line.text, ex=left, nx=text is None and not self._force)
                became.append("written")
        results = iter(pipeline.execute(raise_on_error=False))
        for index, kind in enumerate(became):
            if kind == "written":
                result = next(results)
                if result is not True:
                    became[index] = result if isinstance(result, UpstashError) else "newer"
        return became

    def _newer(self, batch: list[_Line], there: list[str | None]) -> set[int]:
        """The numbers of the lines that Redis holds in another form that was saved later."""
        differing = [line for line, text in zip(batch, there) if text not in (None, line.text)]
        pipeline = self._store.client.pipeline(transaction=False)
        for line in differing:
            pipeline.ttl(line.key)
        now = time()
        return {
            line.number
            for line, ttl in zip(differing, pipeline.execute())
            if ttl == NEVER or not line.dated or now + ttl > line.expires_at - ROUNDING
        }


@contextmanager
def _file(path: Path) -> Iterator[BinaryIO]:
    """The file to read, unpacked if it is packed.

    Raises:
        ToolError: It is in UTF-16.
    """
    with nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb") as file:
        begin = cast(BufferedReader, file).peek(4)[:4]
        if begin.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(BinaryIO, unpacked)
        elif b"\0" in begin or begin.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ToolError(
                f"{path} is in UTF-16, as PowerShell's > writes it: convert it to UTF-8, and "
                "export with: upstash-state export FILE"
            )
        else:
            yield file


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, no more than shows that it is."""
    while line := file.readline(LONGEST_LINE + 1):
        rest = line if len(line) > LONGEST_LINE else b""
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE)
        yield line


def _chunks(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    """Some lines at a time, no id twice in one of them: each is compared with Redis."""
    chunk: dict[str, _Line] = {}
    for line in lines:
        if len(chunk) == CHUNK or line.key in chunk:
            yield list(chunk.values())
            chunk = {}
        chunk[line.key] = line
    yield list(chunk.values())


def _timestamp(moment: object) -> float:
    if moment is None:
        return inf
    if isinstance(moment, str):
        # Python 3.10 does not read the Z.
        parsed = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        if parsed.utcoffset() is not None:
            return parsed.timestamp()
    raise ValueError("expires_at must be like 2025-12-08T11:00:28+00:00, or null")
