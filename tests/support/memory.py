"""An endpoint in memory, at the seam: no socket, a clock to set, a network that misbehaves."""

from __future__ import annotations

import fnmatch
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.support.clock import Clock
from upstash_state import UnavailableError
from upstash_state.transport import PIPELINE, Answer, Endpoint, Send


def written(command: list[str]) -> list[str]:
    """The keys that a command changes."""
    name, *args = command
    several = {"SET": args[:1], "DEL": args}
    return args[1:-2:2] if name == "MSETEX" else several.get(name, [])


class MemoryEndpoint:
    """Answers the commands that the package sends. For `transport.intercepting`.

    Attributes:
        commands: All commands that were executed, in order.
        plan: What happens to the next requests: "refused" (not sent), "lost" (executed, but the
            answer is lost), "late" (not executed before `arrive`, and given up). The rest is well.
        down: Whether everything is refused.
        before: Called with the commands of a request before anything happens to it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Value and expiry of each key.
        self.keys: dict[str, tuple[str, float]] = {}
        self.commands: list[list[str]] = []
        self.requests = 0
        self.plan: deque[str] = deque()
        #: When each late request was given up, and its commands.
        self.late: list[tuple[float, list[list[str]]]] = []
        self.down = False
        self.before: Callable[[list[list[str]]], None] = lambda commands: None

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
        if fate == "late":
            self.late.append((self._clock(), commands))
            raise UnavailableError("given up", reason="closed")
        results = [self.run(command) for command in commands]
        if fate == "lost":
            raise UnavailableError("answer lost", reason="closed")
        answers = [{"result": result} for result in results]
        answer = answers if path == PIPELINE else answers[0]
        return Answer(200, {}, json.dumps(answer).encode())

    def arrive(self) -> None:
        """Let the oldest late request be executed."""
        for command in self.late.pop(0)[1]:
            self.run(command)

    def get(self, key: str) -> str | None:
        value, expires = self.keys.get(key, ("", 0.0))
        return value if expires > self._clock() else None

    def set(self, key: str, value: str, seconds: float) -> None:
        self.keys[key] = (value, self._clock() + seconds)

    def run(self, command: list[str]) -> Any:
        self.commands.append(command)
        name, args = command[0], command[1:]
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
            if self.get(args[0]) is None:
                return -2
            return round((self.keys[args[0]][1] - self._clock()) * 1000)
        if name == "SCAN":
            pattern = args[args.index("MATCH") + 1]
            found = [key for key in self.keys if fnmatch.fnmatchcase(key, pattern)]
            return ["0", [key for key in found if self.get(key) is not None]]
        raise AssertionError(command)
