"""A model of Redis: the commands that the delivery sends, with expiry, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Any


class Redis:
    """Keys, values and expiries.

    Attributes:
        commands: How many commands were executed; those of a script are counted too.
        scripts: Whether it knows EVAL.
        msetex: Whether it knows MSETEX.
        history: Of each key the texts that were set, None for a delete, in order.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[str, float]] = {}
        self.commands = 0
        self.scripts = self.msetex = True
        self.history: dict[str, list[str | None]] = {}

    def execute(self, args: list[str]) -> Any:
        """Execute a command. An error is an answer of the form "ERR ..."."""
        self.commands += 1
        name, *rest = args
        if name == "SET":
            self._set(rest[0], rest[1], int(rest[3]) / (1 if rest[2] == "EX" else 1000))
            return "OK"
        if name == "MSETEX" and self.msetex:
            for key, text in zip(rest[1:-2:2], rest[2:-2:2]):
                self._set(key, text, int(rest[-1]))
            return 1
        if name == "DEL":
            return sum(self._delete(key) for key in rest)
        if name == "EVAL" and self.scripts:
            number = int(rest[1])
            keys, argv = rest[2 : 2 + number], rest[2 + number :]
            return [self._write(key, *argv[6 * i : 6 * i + 6]) for i, key in enumerate(keys)]
        if name == "PING":
            return "PONG"
        return f"ERR unknown command '{name}'"

    def get(self, key: str) -> str | None:
        """Return the value of a key that has not expired."""
        text, expires = self._keys.get(key, ("", 0.0))
        return text if expires > self._clock() else None

    def _pttl(self, key: str) -> int:
        if self.get(key) is None:
            return -2
        return round((self._keys[key][1] - self._clock()) * 1000)

    def _write(
        self, key: str, check: str, ttl: str, px: str, left: str, digests: str, text: str
    ) -> int:
        """What `upstash_state.writes.SCRIPT` does for one key."""
        write = True
        self.commands += check != "1"
        expires = 0 if check == "1" else self._pttl(key)
        if check == "1" or int(left) < expires <= int(ttl):
            self.commands += 1
            stored = self.get(key)
            digest = "-" if stored is None else sha1(stored.encode()).hexdigest()
            write = f" {digest} " in digests
        if write:
            self.commands += 1
            if text:
                self._set(key, text, int(left) / 1000)
            else:
                self._delete(key)
        return int(write)

    def _set(self, key: str, text: str, seconds: float) -> None:
        self._keys[key] = (text, self._clock() + seconds)
        self.history.setdefault(key, []).append(text)

    def _delete(self, key: str) -> int:
        self.history.setdefault(key, []).append(None)
        return int(self._keys.pop(key, None) is not None)
