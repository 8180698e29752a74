"""`import`: orders from a file of JSON lines, in the form of `exporting`, to Redis.

A line without `expires_at` is imported to expire as a newly saved order does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from time import time

from ..batches import Save, cut
from ..bulk import MOST_BYTES as MAX_BODY_BYTES
from ..errors import (
    AnswerTooLargeError,
    KeyTooLargeError,
    RecordTooLargeError,
    RequestTooLargeError,
    UpstashError,
)
from ..serialization import deserialize_order
from ..store import OrderStore
from .exporting import STANDARD
from .stored import BATCH, NEVER, key_of
from .terminal import Progress, orders, printable

# Redis rounds a time to live to seconds, and so does the file.
ROUNDING = 2

_TOO_LARGE = (KeyTooLargeError, RecordTooLargeError, RequestTooLargeError, AnswerTooLargeError)


def import_orders(store: OrderStore, path: Path, *, force: bool, as_json: bool) -> int:
    """Write the orders of a file to Redis; what is broken or would be lost is named and left out.

    Args:
        store: Where to write.
        path: The file; `-` for standard input.
        force: Whether to overwrite orders that are newer than the file's.
        as_json: Whether to say what was done as JSON.
    """
    with Progress("imported") as progress:
        work = Import(store, force=force, progress=progress)
        with nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb") as lines:
            work.run(lines)
    if as_json:
        print(json.dumps(work.counts))
    else:
        said = (f"{number:,} {kind.replace('_', ' ')}" for kind, number in work.counts.items())
        print(f"{orders(work.total())}: {', '.join(said)}")
        if work.counts["newer"]:
            print("What is newer in Redis was kept; --force overwrites it.", file=sys.stderr)
    return 0 if work.complete() else 1


class _Line(Save):
    """A line that is to be imported. `expires_at` is None for an order that never expires."""

    __slots__ = ("dated", "expires_at", "number")

    def __init__(
        self,
        number: int,
        store: OrderStore,
        order_id: str,
        text: str,
        expires_at: float | None,
        *,
        dated: bool,
    ) -> None:
        super().__init__(order_id, key_of(store, order_id), text, b"")
        self.number = number
        self.expires_at = expires_at
        self.dated = dated


class Import:
    """One import. May be run again after it was interrupted: what is there already is left alone.

    An order in Redis that differs from the file's is overwritten if it expires before the file's
    does: each save sets the expiry anew, so it was saved before, as long as UPSTASH_STATE_TTL was
    the same. Otherwise it counts as newer, also where one of the two does not say.

    Args:
        store: Where to write.
        force: Whether to overwrite newer orders.
        progress: What shows how far it is.
        clock: The time of day in seconds.
    """

    def __init__(
        self,
        store: OrderStore,
        *,
        force: bool,
        progress: Progress,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._force = force
        self._progress = progress
        self._clock = clock
        #: What became of the lines.
        self.counts = dict.fromkeys(("written", "already_there", "expired", "newer", "broken"), 0)

    def total(self) -> int:
        """How many lines have been dealt with."""
        return sum(self.counts.values())

    def complete(self) -> bool:
        """Whether Redis holds every order of the file that has not expired."""
        return not self.counts["newer"] and not self.counts["broken"]

    def run(self, lines: Iterable[bytes]) -> None:
        """Import lines.

        Raises:
            UpstashError: Redis could not be asked, or refused. The lines before may be imported.
        """
        for chunk in _chunks(self._readable(lines)):
            for batch in cut(chunk, MAX_BODY_BYTES):
                self._import(batch)
                self._progress.show(self.total())

    def _readable(self, lines: Iterable[bytes]) -> Iterator[_Line]:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            try:
                yield self._parse(number, raw)
            except (ValueError, RecursionError) as error:
                self._broken(number, str(error))

    def _parse(self, number: int, raw: bytes) -> _Line:
        # Editors on Windows begin a file with a mark (U+FEFF).
        fields = json.loads(raw.decode("utf-8-sig"))
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        order_id, text = fields.get("id"), fields.get("stored")
        if not isinstance(order_id, str) or not isinstance(text, str):
            raise ValueError("id and stored must be text")
        if not (order_id + text).isascii():
            (order_id + text).encode()
        deserialize_order(text)
        if "expires_at" not in fields:
            expires_at = self._clock() + self._store.ttl
            return _Line(number, self._store, order_id, text, expires_at, dated=False)
        moment = fields["expires_at"]
        return _Line(
            number,
            self._store,
            order_id,
            text,
            None if moment is None else _timestamp(moment),
            dated=moment is not None,
        )

    def _broken(self, number: int, reason: str) -> None:
        self.counts["broken"] += 1
        self._progress.clear()
        print(f"upstash-state: line {number} not imported: {printable(reason)}", file=sys.stderr)

    def _import(self, batch: list[_Line]) -> None:
        try:
            self._write(batch)
        except _TOO_LARGE as error:
            # One order, or all together: smaller batches tell.
            if len(batch) == 1:
                self._broken(batch[0].number, str(error))
                return
            self._import(batch[: len(batch) // 2])
            self._import(batch[len(batch) // 2 :])

    def _write(self, batch: list[_Line]) -> None:
        there = self._store.client.mget([line.key for line in batch])
        differing = [
            line for line, text in zip(batch, there) if text is not None and text != line.text
        ]
        newer = set() if self._force or not differing else self._newer(differing)
        pipeline = self._store.client.pipeline(transaction=False)
        became = dict.fromkeys(self.counts, 0)
        written = []
        for line, text in zip(batch, there):
            left = None if line.expires_at is None else int(line.expires_at - self._clock())
            if text == line.text:
                became["already_there"] += 1
            elif left is not None and left <= 0:
                became["expired"] += 1
            elif line.number in newer:
                became["newer"] += 1
            else:
                # nx: what the app has saved since the MGET is newer, too.
                pipeline.set(line.key, line.text, ex=left, nx=text is None and not self._force)
                written.append(line)
        results = pipeline.execute(raise_on_error=False)
        for kind, number in became.items():
            self.counts[kind] += number
        for line, result in zip(written, results):
            if result is True:
                self.counts["written"] += 1
            elif isinstance(result, _TOO_LARGE):
                self._broken(line.number, str(result))
            elif isinstance(result, UpstashError):
                raise result
            else:
                self.counts["newer"] += 1

    def _newer(self, lines: list[_Line]) -> set[int]:
        pipeline = self._store.client.pipeline(transaction=False)
        for line in lines:
            pipeline.ttl(line.key)
        now = self._clock()
        return {
            line.number
            for line, ttl in zip(lines, pipeline.execute())
            if ttl == NEVER
            or line.expires_at is None
            or not line.dated
            or now + ttl > line.expires_at - ROUNDING
        }


def _chunks(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """Up to 1,000 lines at a time, no id twice in one of them: each is compared with Redis."""
    chunk: dict[str, _Line] = {}
    for line in lines:
        if len(chunk) == BATCH or line.key in chunk:
            yield list(chunk.values())
            chunk = {}
        chunk[line.key] = line
    yield list(chunk.values())


def _timestamp(moment: object) -> float:
    if isinstance(moment, str):
        # Python 3.10 does not read the Z.
        parsed = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        if parsed.utcoffset() is not None:
            return parsed.timestamp()
    raise ValueError("expires_at must be like 2025-12-08T11:00:28+00:00, or null")
