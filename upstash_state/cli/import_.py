"""`import`: write orders from a file in the form of `export` to Redis."""

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from io import BufferedReader
from itertools import chain, islice
from math import inf
from time import time
from typing import NamedTuple, cast

import click

from .. import OrderStore, UpstashError, deserialize_order
from ..logs import plural
from .params import json_option
from .requests import TOO_LARGE, in_requests
from .stored import NEVER, ask, opened
from .terminal import complain, progress

# Redis rounds a TTL to seconds, and so does the file.
ROUNDING = 2
# Three times the limit for a request on most plans, because JSON in JSON has escaped quotes.
LONGEST_LINE = 32 * 1024 * 1024
# The number of broken lines that are named. A file that starts with so many is not an export.
NAMED = 20
KINDS = ("written", "already_there", "expired", "newer", "duplicate", "broken")


@click.command("import")
@click.argument("file")
@click.option("--force", is_flag=True, help="Overwrite newer orders, too.")
@json_option
def import_orders(file: str, force: bool, as_json: bool) -> int:
    """Write the orders of an exported file to Redis.

    An order expires at the moment that the file names, or like a new save if it has no expires_at.
    If Redis holds another version of an order, the version that expires later is kept, because
    every save renews the expiry. After an interruption, run it again. - means standard input.

    Costs a command for each order written and for each 500, and one for each order of which Redis
    holds another version.

    \b
    Examples:
      upstash-state import orders.jsonl.gz
      ssh backup cat orders.jsonl | upstash-state import -
    """
    counts = dict.fromkeys(KINDS, 0)
    with opened() as store, unpacked(file) as lines, progress("imported") as show:
        try:
            for number, became in imported(store, lines, force):
                kind = "broken" if isinstance(became, Exception) else became
                counts[kind] += 1
                if kind == "broken" and counts[kind] <= NAMED:
                    complain(f"line {number} not imported: {became}")
                show(sum(counts.values()))
        except KeyboardInterrupt:
            done = plural(sum(counts.values()))
            raise KeyboardInterrupt(f" after {done}: run it again to import the rest") from None
    if counts["broken"] > NAMED:
        complain(f"{plural(counts['broken'] - NAMED, 'more line')} not imported")
    if as_json:
        print(json.dumps(counts))
    else:
        said = (f"{n:,} {kind.replace('_', ' ')}" for kind, n in counts.items() if n)
        print(f"{plural(sum(counts.values()))}: {', '.join(said) or 'nothing to do'}")
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
        dated: Whether the file names the moment at which it expires. False for null.
        result: What is known before it is imported: that it is a duplicate, or the error of a
            broken line.
    """

    number: int
    id: str = ""
    text: str = ""
    expires_at: float = inf
    dated: bool = False
    result: str | Exception = ""


def imported(
    store: OrderStore, file: BufferedReader, force: bool
) -> Iterator[tuple[int, str | Exception]]:
    """Import the lines of a file. It may be run again: equal orders are not written again.

    An order in Redis that differs from the file's is overwritten if it expires earlier: each save
    renews the expiry, so it was saved earlier, as long as UPSTASH_STATE_TTL was the same.
    Otherwise, or if the line has no date in expires_at, it counts as newer and is kept.

    Of two lines with the same id, the one that expires later is imported, or else the first.

    Args:
        store: Where to write.
        file: The file.
        force: Whether to overwrite newer orders.

    Yields:
        The number of each line with its result: one of `KINDS`, or the error of a broken line.

    Raises:
        ClickException: The file starts with broken lines.
        UpstashError: Redis could not be reached, or refused. Some lines may be imported.
    """
    lines = read(file, store.ttl)
    head = list(islice(lines, NAMED))
    if head and all(line.result for line in head):
        error = f"line {head[0].number} not imported: {head[0].result}"
        raise click.ClickException(f"the file is not an export: {error}")
    unique = _without_duplicates(chain(head, lines))
    for line, became in in_requests(unique, partial(_write, store, force), _size):
        yield line.number, became


def _without_duplicates(lines: Iterable[Line]) -> Iterator[Line]:
    latest: dict[str, float] = {}
    for line in lines:
        if not line.result and line.expires_at <= latest.get(line.id, -inf) + ROUNDING:
            line = line._replace(result="duplicate")
        elif not line.result:
            latest[line.id] = line.expires_at
        yield line


def _write(store: OrderStore, force: bool, batch: Sequence[Line]) -> list[str | Exception]:
    """Write the lines that Redis lacks, and return the result of each line."""
    latest = {line.id: line for line in batch if not line.result}
    lines = list(latest.values())
    there = store.client.mget([store.key(line.id) for line in lines]) if lines else []
    newer = set() if force else _newer(store, lines, there)
    pipeline = store.client.pipeline(transaction=False)
    became: dict[Line, str | Exception] = {}
    written = []
    for line, text in zip(lines, there):
        if text == line.text:
            became[line] = "already_there"
        elif line.expires_at <= time():
            became[line] = "expired"
        elif line in newer:
            became[line] = "newer"
        else:
            # nx: an order that the app has saved since the MGET is newer, too.
            nx = text is None and not force
            expires_at = None if line.expires_at == inf else int(line.expires_at * 1000)
            pipeline.set(store.key(line.id), line.text, pxat=expires_at, nx=nx)
            written.append(line)
    for line, result in zip(written, pipeline.execute(raise_on_error=False)):
        if isinstance(result, UpstashError) and not isinstance(result, TOO_LARGE):
            raise result
        # None because of nx.
        became[line] = {True: "written", None: "newer"}.get(result, result)
    return [line.result or became.get(line, "duplicate") for line in batch]


def _newer(store: OrderStore, lines: Sequence[Line], there: Sequence[str | None]) -> set[Line]:
    """Return the lines of which Redis holds another version that was saved later."""
    differing = {line.id: line for line, text in zip(lines, there) if text not in (None, line.text)}
    newer = set()
    for order_id, [ttl] in ask(store, differing, "ttl"):
        line, latest = differing[order_id], inf if ttl == NEVER else ttl + time()
        if not line.dated or latest > line.expires_at - ROUNDING:
            newer.add(line)
    return newer


def _size(line: Line) -> int:
    # The rest of a SET: its name, its options, brackets, quotes and commas.
    return len(json.dumps([line.id, line.text], ensure_ascii=False).encode()) + 100


@contextmanager
def unpacked(path: str) -> Iterator[BufferedReader]:
    """Open a file, or standard input for `-`, and decompress it if it is compressed.

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


def read(file: BufferedReader, ttl: float = 0) -> Iterator[Line]:
    """Read the lines of an export that are not blank.

    Args:
        file: The file.
        ttl: Seconds until an order expires if its line does not say when.

    Yields:
        Each line. The `result` of a broken one is the error that says what is wrong.
    """
    number = 0
    try:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if raw.strip():
                try:
                    yield _parse(number, raw, ttl)
                except (ValueError, RecursionError) as error:
                    yield Line(number, result=error)
            while len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        cut = f"{file.name} is cut off or damaged after {plural(number, 'line')}: {error}"
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
