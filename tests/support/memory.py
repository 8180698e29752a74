"""An endpoint in memory, at the seam: no socket, a clock to set, a network that misbehaves."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.support.clock import Clock
from upstash_state import EndpointTimeoutError, UnavailableError
from upstash_state.transport import PIPELINE, Answer, Endpoint, Send
from upstash_state.writes import SCRIPT


class Refused(Exception):
    """What the database says instead of doing what it is told."""


def written(command: list[str]) -> list[str]:
    """Return the keys that a command changes."""
    name, *args = command
    if name == "EVAL":
        return args[2 : 2 + int(args[1])]
    several = {"SET": args[:1], "DEL": args}
    return args[1:-2:2] if name == "MSETEX" else several.get(name, [])


class MemoryEndpoint:
    """Answers the commands that the package sends. For `transport.intercepting`.

    Attributes:
        commands: All commands that were executed, in order.
        plan: What happens to the next requests: "refused" (not sent), "lost" (executed, but the
            answer is lost), "late" (not executed before `arrive`, and given up), "again" (the same,
            but the client retries), or a status of HTTP with a page. The rest is well.
        down: Whether everything is refused.
        latency: Seconds that a request takes, on the clock.
        before: Called with the commands of a request before anything happens to it.
        refuse: Called with each write; what it returns is the database's error.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.latency = 0.0
        #: Value and expiry of each key.
        self.keys: dict[str, tuple[str, float]] = {}
        self.commands: list[list[str]] = []
        self.requests = 0
        self.plan: deque[str] = deque()
        #: When each late request was given up, and its commands.
        self.late: list[tuple[float, list[list[str]]]] = []
        self.down = False
        self.before: Callable[[list[list[str]]], None] = lambda commands: None
        self.refuse: Callable[[list[str]], str | None] = lambda command: None

    def __call__(self, wire: Endpoint, send: Send) -> Send:
        return self.send

    def send(self, path: str, body: bytes, deadline: float) -> Answer:
        sent = json.loads(body)
        commands = sent if path == PIPELINE else [sent]
        self.before(commands)
        self.requests += 1
        fate = self.plan.popleft() if self.plan else ""
        if self.down or fate == "refused":
            raise UnavailableError("refused", reason="connect", may_have_executed=False)
        if fate.isdecimal():
            return Answer(int(fate), {}, b"<html>")
        if fate in ("late", "again"):
            self.late.append((self._clock(), commands))
            raise UnavailableError("given up", reason="closed", transient=fate == "again")
        answers = [self._answer(command) for command in commands]
        if self.latency:
            self._clock.now += self.latency
            if time.monotonic() > deadline:
                raise EndpointTimeoutError("no answer in time")
        if fate == "lost":
            raise UnavailableError("answer lost", reason="closed")
        answer = answers if path == PIPELINE else answers[0]
        return Answer(200, {}, json.dumps(answer).encode())

    def _answer(self, command: list[str]) -> dict[str, Any]:
        try:
            return {"result": self.run(command)}
        except Refused as error:
            return {"error": str(error)}

    def arrive(self) -> None:
        """Let the oldest late request be executed."""
        for command in self.late.pop(0)[1]:
            self._answer(command)

    def get(self, key: str) -> str | None:
        value, expires = self.keys.get(key, ("", 0.0))
        return value if expires > self._clock() else None

    def set(self, key: str, value: str, seconds: float) -> None:
        self.keys[key] = (value, self._clock() + seconds)

    def run(self, command: list[str]) -> Any:
        self.commands.append(command)
        name, args = command[0], command[1:]
        if name == "EVAL":
            return self._eval(*args)
        if written(command) and (text := self.refuse(command)):
            raise Refused(text)
        if name == "PING":
            return "PONG"
        if name == "SET":
            self.set(args[0], args[1], int(args[3]) / {"EX": 1, "PX": 1000}[args[2]])
            return "OK"
        if name == "MSETEX":
            for key, value in zip(written(command), args[2::2]):
                self.set(key, value, int(args[-1]))
            return 1
        if name == "DEL":
            return sum(self.keys.pop(key, None) is not None for key in args)
        if name == "GET":
            return self.get(args[0])
        if name == "MGET":
            return [self.get(key) for key in args]
        if name == "PTTL":
            return self._pttl(args[0])
        if name == "SCAN":
            pattern = args[args.index("MATCH") + 1]
            found = [key for key in self.keys if fnmatch.fnmatchcase(key, pattern)]
            return ["0", [key for key in found if self.get(key) is not None]]
        raise AssertionError(command)

    def _pttl(self, key: str) -> float:
        if self.get(key) is None:
            return -2
        left = self.keys[key][1] - self._clock()
        return -1 if left == float("inf") else round(left * 1000)

    def _eval(self, script: str, count: str, *rest: str) -> list[int]:
        """Do what the script does, which has tests of its own in tests/test_writes.py."""
        assert script == SCRIPT
        done: list[int] = []
        for index, key in enumerate(rest[: int(count)]):
            first = int(count) + 6 * index
            check, ttl, _, left, digests, text = rest[first : first + 6]
            if check == "1" or int(left) < self._pttl(key) <= int(ttl):
                stored = self.get(key)
                digest = "-" if stored is None else hashlib.sha1(stored.encode()).hexdigest()
                if digest not in digests.split():
                    done.append(0)
                    continue
            command = ["SET", key, text, "PX", left] if text else ["DEL", key]
            if error := self.refuse(command):
                raise Refused(error)
            if text:
                self.set(key, text, int(left) / 1000)
            else:
                self.keys.pop(key, None)
            done.append(1)
        return done
