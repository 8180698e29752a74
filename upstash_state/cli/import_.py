"""`import`: write orders from a file in the form of `export` to Redis."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from io import BufferedReader
from math import inf
from time import time
from typing import NamedTuple, cast

import click

from .. import OrderStore, UpstashError, deserialize_order
from .params import json_option
from .requests import TOO_LARGE, in_requests
from .stored import NEVER, opened
from .terminal import complain, orders, progress

# Redis rounds a TTL to seconds, and so does the file.
ROUNDING = 2
# Three times the limit for a request on most plans: JSON in JSON has its quotes escaped.
LONGEST_LINE = 32 * 1024 * 1024
# The number of broken lines that are named. A file that starts with so many is not an export.
NAMED = 20
KINDS = ("written", "already_there", "expired", "newer", "duplicate", "broken")


@click.command("import")
@click.argument("file")
@click.option("--force", is_flag=True, help="Overwrite newer orders, too.")
@json_option
def import_orders(file: str, force: bool, as_json: bool) -> int:
    """Write orders from a file of export to Redis.

    An order expires at the moment that the file names, and without expires_at like a new save.
    If Redis holds another version of an order, the version that expires later counts, since every
    save renews the expiry. After an interruption, run it again. - stands for standard input.

    Costs a command for each order written and for each 500, and one for each order of which Redis
    holds another version.

    \b
    Examples:
      upstash-state import orders.jsonl.gz
      ssh backup cat orders.jsonl | upstash-state import -
    """
    with opened() as store, unpacked(file) as lines, progress("imported") as show:
        work = Import(store, force=force)
        try:
            work.run(lines, show)
        except KeyboardInterrupt:
            done = f" after {orders(work.total())}: run it again to import the rest"
            raise KeyboardInterrupt(done) from None
        finally:
            for text in work.broken:
                complain(text)
    counts = work.counts
    if counts["broken"] > NAMED:
        complain(f"{counts['broken'] - NAMED:,} more lines not imported")
    if as_json:
        print(json.dumps(counts))
    else:
        said = (f"{n:,} {kind.replace('_', ' ')}" for kind, n in counts.items() if n)
        print(f"{orders(work.total())}: {', '.join(said) or 'nothing to do'}")
        if counts["newer"]:
            print("Newer orders in Redis were kept; --force overwrites them.", file=sys.stderr)
    return 1 if counts["newer"] or counts["broken"] else 0


class Line(NamedTuple):
    """A line of the file.

    Attributes:
        number: Its number, from 1.
        id: The order's id.
        text: The order's stored text.
        expires_at: When the order expires, infinite for never.
        dated: Whether the file says when it expires.
    """

    number: int
    id: str
    text: str
    expires_at: float
    dated: bool


class Import:
    """One import. It may be run again after an interruption: equal orders are left alone.

    An order in Redis that differs from the file's is overwritten if it expires earlier: each save
    renews the expiry, so it was saved earlier, as long as UPSTASH_STATE_TTL was the same. Otherwise
    it is newer and is kept, also if one of the two does not say when it expires.

    Of two lines with the same id, the one that expires later is imported, or else the first.

    Args:
        store: Where to write.
        force: Whether to overwrite newer orders.

    Attributes:
        counts: The number of lines by result, one of `KINDS`.
        broken: Messages about the first broken lines.
    """

    def __init__(self, store: OrderStore, *, force: bool) -> None:
        self._store = store
        self._force = force
        self.counts = dict.fromkeys(KINDS, 0)
        self.broken: list[str] = []

    def total(self) -> int:
        """Return how many lines are done."""
        return sum(self.counts.values())

    def run(self, file: BufferedReader, show: Callable[[int], None]) -> None:
        """Import the lines of a file.

        Args:
            file: The file.
            show: Called with the number of lines that are done.

        Raises:
            ClickException: The file starts with broken lines.
            UpstashError: Redis could not be reached, or refused. Some lines may be imported.
        """
        for line, became in in_requests(self._lines(file), self._write, _size):
            if isinstance(became, TOO_LARGE):
                self._leave_out(line.number, became)
            elif isinstance(became, UpstashError):
                raise became
            else:
                self.counts[became] += 1
            show(self.total())

    def _lines(self, file: BufferedReader) -> Iterator[Line]:
        """Yield the lines to write, and count the others."""
        latest: dict[str, float] = {}
        for number, line in read(file, self._store.ttl):
            if isinstance(line, Exception):
                self._leave_out(number, line)
                if not latest and len(self.broken) == NAMED:
                    break
            elif line.expires_at <= latest.get(line.id, -inf) + ROUNDING:
                self.counts["duplicate"] += 1
            else:
                latest[line.id] = line.expires_at
                yield line
        if self.broken and not latest:
            first, self.broken = self.broken[0], []
            raise click.ClickException(f"the file is not an export: {first}")

    def _leave_out(self, number: int, error: Exception) -> None:
        self.counts["broken"] += 1
        if len(self.broken) < NAMED:
            self.broken.append(f"line {number} not imported: {error}")

    def _write(self, batch: Sequence[Line]) -> list[str | UpstashError]:
        """Write the lines of a batch that Redis lacks, and return the result of each line."""
        latest = {line.id: line for line in batch}
        there = self._store.client.mget([self._store.key(line.id) for line in batch])
        newer = set() if self._force else self._newer(batch, there)
        pipeline = self._store.client.pipeline(transaction=False)
        became: list[str | UpstashError] = []
        for line, text in zip(batch, there):
            left = None if line.expires_at == inf else int(line.expires_at - time())
            if line is not latest[line.id]:
                became.append("duplicate")
            elif text == line.text:
                became.append("already_there")
            elif left is not None and left <= 0:
                became.append("expired")
            elif line in newer:
                became.append("newer")
            else:
                # nx: an order that the app has saved since the MGET is newer, too.
                nx = text is None and not self._force
                pipeline.set(self._store.key(line.id), line.text, ex=left, nx=nx)
                became.append("")
        # Each is True, None because of nx, or an error.
        results = iter(pipeline.execute(raise_on_error=False))
        names = {True: "written", None: "newer"}
        return [kind or names.get(result := next(results), result) for kind in became]

    def _newer(self, batch: Sequence[Line], there: list[str | None]) -> set[Line]:
        """Return the lines of which Redis holds another version that was saved later."""
        differing = [line for line, text in zip(batch, there) if text not in (None, line.text)]
        pipeline = self._store.client.pipeline(transaction=False)
        for line in differing:
            pipeline.ttl(self._store.key(line.id))
        latest = [ttl + time() if ttl != NEVER else inf for ttl in pipeline.execute()]
        return {
            line
            for line, moment in zip(differing, latest)
            if not line.dated or moment > line.expires_at - ROUNDING
        }


def _size(line: Line) -> int:
    # The rest of a SET: its name, its options, brackets, quotes and commas.
    return len(json.dumps([line.id, line.text], ensure_ascii=False).encode()) + 100


@contextmanager
def unpacked(path: str) -> Iterator[BufferedReader]:
    """Open a file to read, standard input for `-`, and unpack it if it is packed.

    Raises:
        ClickException: It is in UTF-16.
    """
    with click.open_file(path, "rb") as binary:
        file = cast(BufferedReader, binary)
        begin = file.peek(4)[:4]
        packed = begin.startswith(b"\x1f\x8b")
        if not packed and (b"\0" in begin or begin.startswith((b"\xff\xfe", b"\xfe\xff"))):
            raise click.ClickException(
                f"{path} is in UTF-16, as PowerShell's > writes it: convert it to UTF-8, and "
                "export with: upstash-state export FILE"
            )
        with gzip.GzipFile(fileobj=file) if packed else nullcontext(file) as unpacked:
            yield cast(BufferedReader, unpacked)


def read(file: BufferedReader, ttl: float = 0) -> Iterator[tuple[int, Line | Exception]]:
    """Read the lines of an export that are not blank.

    Args:
        file: The file.
        ttl: Seconds until an order expires if its line does not say when.

    Yields:
        The number of each line with its content, or with the error that says what is wrong.
    """
    number = 0
    try:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if raw.strip():
                try:
                    line: Line | Exception = _parse(number, raw, ttl)
                except (ValueError, RecursionError) as error:
                    line = error
                yield number, line
            while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        cut = f"{file.name} is cut off or damaged after {number:,} lines: {error}"
        raise click.ClickException(cut) from None


def _parse(number: int, raw: bytes, ttl: float) -> Line:
    if len(raw) > LONGEST_LINE:
        raise ValueError(f"it is longer than {LONGEST_LINE:,} bytes")
    # Editors on Windows start a file with a mark (U+FEFF).
    match fields := json.loads(raw.decode("utf-8-sig")):
        case {"id": str(order_id), "stored": str(text)}:
            (order_id + text).encode()  # UTF-8 cannot carry lone surrogates.
        case _:
            raise ValueError("it is not a JSON object whose id and stored are text")
    deserialize_order(text)
    moment = fields.get("expires_at", ...)
    expires_at = time() + ttl if moment is ... else _timestamp(moment)
    return Line(number, order_id, text, expires_at, isinstance(moment, str))


def _timestamp(moment: object) -> float:
    if moment is None:
        return inf
    if isinstance(moment, str):
        # Python 3.10 does not read the Z.
        parsed = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        if parsed.utcoffset() is not None:
            return parsed.timestamp()
    raise ValueError("expires_at must be like 2025-12-08T11:00:28+00:00, or null")
