"""What this process saved last, so that the same need not be sent again. Pure, clock passed in."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Lock
from time import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Change:
    """A save or delete under way. `digest` is set once Redis is known to hold that text."""

    __slots__ = ("alone", "digest", "under_way")

    def __init__(self) -> None:
        self.under_way = 1
        self.alone = True
        self.digest: bytes | None = None


class Unchanged:
    """Remembers, for a while, a digest of each order's text that Redis holds.

    Args:
        seconds: For how long to remember; 0 for not at all.
        clock: The time of day in seconds, which goes on while a process is frozen.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._start()

    def __len__(self) -> int:
        return len(self._saved)

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        # In the order in which they were saved, so that the oldest are found at once.
        self._saved: dict[str, tuple[bytes, float]] = {}
        self._changing: dict[str, Change] = {}

    def digest(self, text: str) -> bytes:
        """What to compare instead of the text. Empty when nothing is remembered."""
        if not self._seconds:
            return b""
        from hashlib import blake2b

        return blake2b(text.encode(), digest_size=16).digest()

    def holds(self, key: str, digest: bytes) -> bool:
        """Whether Redis was given just this, by this process and less than `seconds` ago."""
        saved = self._saved.get(key)
        return (
            saved is not None
            and saved[0] == digest
            # Negative when the clock was set back: then nothing is known.
            and 0 <= self._clock() - saved[1] < self._seconds
            and os.getpid() == self._pid
        )

    @contextmanager
    def changing(self, key: str) -> Iterator[Change]:
        """Forget a key while it is changed; after the block, remember the change's digest.

        Two changes of one key at the same time may reach Redis in either order, so neither is
        remembered. One that fails may have reached it, so it isn't either.
        """
        if not self._seconds:
            yield Change()
            return
        if os.getpid() != self._pid:
            self._start()
        with self._lock:
            self._saved.pop(key, None)
            change = self._changing.get(key)
            if change is None:
                change = self._changing[key] = Change()
            else:
                change.alone = False
                change.under_way += 1
        try:
            yield change
        finally:
            with self._lock:
                change.under_way -= 1
                if not change.under_way:
                    self._changing.pop(key, None)
                    if change.alone and change.digest is not None:
                        self._remember(key, change.digest)

    def _remember(self, key: str, digest: bytes) -> None:
        now = self._clock()
        self._saved[key] = (digest, now)
        for oldest, (_, saved_at) in list(self._saved.items())[:2]:
            if now - saved_at < self._seconds:
                break
            del self._saved[oldest]
