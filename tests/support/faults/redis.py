"""As much of Redis as the eight functions need, in a dict."""

from __future__ import annotations

import itertools
import threading
import time
from fnmatch import fnmatchcase
from typing import Any


class TinyRedis:
    """Strings. Expiries are kept to be looked at; nothing ever expires."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serials = itertools.count(1)
        # A key's serial number, for SCAN: with the last number seen as the cursor, no key is missed
        # that is there all the time, whatever comes and goes meanwhile.
        self._numbers: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.expiries: dict[str, int] = {}
        self._ends: dict[str, float] = {}
        #: The most keys that SCAN gives at a time. Its COUNT is but a hint.
        self.page = 1000

    def run(self, command: list[str]) -> dict[str, Any]:
        """Run one command, and give what the REST API makes of it."""
        name, *args = command
        method = getattr(self, f"_{name.lower()}", None)
        if method is None:
            return {"error": f"ERR Command is not available: '{name}'"}
        with self._lock:
            return {"result": method(*args)}

    def _ping(self) -> str:
        return "PONG"

    def _set(self, key: str, text: str, *options: str) -> str:
        self.texts[key] = text
        self._numbers.setdefault(key, next(self._serials))
        self.expiries.pop(key, None)
        if options:
            unit, time_to_live = options
            seconds = int(time_to_live) / {"EX": 1, "PX": 1000}[unit]
            self.expiries[key] = round(seconds)
            self._ends[key] = time.monotonic() + seconds
        return "OK"

    def _get(self, key: str) -> str | None:
        return self.texts.get(key)

    def _mget(self, *keys: str) -> list[str | None]:
        return [self.texts.get(key) for key in keys]

    def _del(self, *keys: str) -> int:
        for key in keys:
            self._numbers.pop(key, None)
            self.expiries.pop(key, None)
        return sum(self.texts.pop(key, None) is not None for key in keys)

    def _exists(self, *keys: str) -> int:
        return sum(key in self.texts for key in keys)

    def _ttl(self, key: str) -> int:
        return self.expiries.get(key, -1 if key in self.texts else -2)

    def _pttl(self, key: str) -> int:
        if key not in self.expiries:
            return self._ttl(key)
        return round((self._ends[key] - time.monotonic()) * 1000)

    def _incr(self, key: str) -> int:
        value = int(self.texts.get(key, "0")) + 1
        self._set(key, str(value))
        return value

    def _scan(self, cursor: str, *options: str) -> list[Any]:
        given = dict(zip(options[::2], options[1::2], strict=True))
        left = [key for key, number in self._numbers.items() if number > int(cursor)]
        page = left[: min(self.page, int(given.get("COUNT", "10")))]
        after = str(self._numbers[page[-1]]) if len(page) < len(left) else "0"
        return [after, [key for key in page if fnmatchcase(key, given.get("MATCH", "*"))]]
