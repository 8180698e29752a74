"""A recording under way: it takes the requests at the seam, and answers or records them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock, current_thread, enumerate
from typing import Literal, get_args

from ..environment import environment
from ..errors import NotRecordedError, SettingsError, UnavailableError
from ..process import reset_client
from ..settings import URL_AND_TOKEN, Settings
from ..transport import COMMAND, Answer, Endpoint, Send, intercepting
from .exchange import Exchange, RecordingError, Request
from .explain import Options, explain_unmatched, explain_unused, foreseen, what_varies
from .faults import Fault, checked, simulated
from .match import Replay
from .storage import read, secrets_in, secrets_of, write

Mode = Literal["none", "once", "all"]

# Loopback, so that nothing leaves the machine if it should be asked after all. Port 1 is served by
# nobody.
PLACEHOLDERS = dict(zip(URL_AND_TOKEN[0], ("http://127.0.0.1:1", "no-token-in-replay")))

#: The recordings that have begun and are not over, the innermost last: that one takes the requests.
under_way: list[Recording] = []


class RecordingMismatchError(RecordingError, AssertionError):
    """Raised at the end when what was sent and what is recorded do not fit."""


class Recording:
    """A recording under way. Made by `recording` and by the fixture `upstash_recording`.

    Attributes:
        path: Its file.
        replays: Whether answers come from the file. If not, the file is being made.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Mode, options: Options) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.path = Path(path)
        self.replays = not records(self.path, mode)
        #: The file's, short where it is inside the working directory.
        self.name = str(self.path).removeprefix(f"{Path.cwd()}{os.sep}")
        self._options = options
        self._lock = Lock()
        self._faults: deque[Fault] = deque()
        self._unmatched: Counter[Request] = Counter()
        self._recorded: list[Exchange] = []
        self._unanswered: dict[Request, str] = {}
        self._in_teardown = False
        self._simulated_seconds = 0.0
        self._threads_before = {*enumerate()} - {current_thread()}
        self._strangers: dict[str, None] = {}
        self._secrets = secrets_in(os.environ)
        exchanges = self._load() if self.replays else self._none()
        self._replay = Replay(exchanges, options.varying)

    def fail_next(self, n: int, fault: Fault) -> None:
        """Let the next `n` attempts meet a fault. They are neither sent nor recorded.

        What follows is as in life, but not waited for: an outage is retried three times, so one
        call that fails takes four, and after three such calls the circuit opens (see `wait`). The
        other faults are not retried.

            upstash_recording.fail_next(4, "outage")

        Args:
            n: How many attempts.
            fault: "outage" (the endpoint cannot be reached), "slow" (the answer does not come
                within the time budget), "wrong token", or "quota" (the plan's commands are used
                up).
        """
        checked(fault)
        with self._lock:
            self._faults.extend([fault] * n)

    def wait(self, seconds: float) -> None:
        """Let simulated time pass, after which an open circuit lets a call through again.

        Args:
            seconds: How long: the circuit stays open for 5 s at first, for 60 s at most.
        """
        self._simulated_seconds += seconds

    # What follows is for `recording` and the pytest plugin.

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take this package's requests, and give the functions a client of their own."""
        with ExitStack() as stack:
            if self.replays:
                stack.enter_context(environment(**PLACEHOLDERS))
            reset_client(flush=False)
            stack.callback(reset_client, flush=False)
            # Simulated also while recording, so that a replay meets the same circuit and retries.
            stack.enter_context(intercepting(self._intercept, simulated=True, clock=self._clock))
            under_way.append(self)
            stack.callback(under_way.remove, self)
            yield

    def test_is_over(self) -> str | None:
        """What does not fit up to here, or None. Requests from here on are a clean-up's."""
        with self._lock:
            self._in_teardown = True
        return self.problem(in_teardown=False)

    def problem(self, *, in_teardown: bool = True) -> str | None:
        """What does not fit, for people, or None.

        Args:
            in_teardown: Whether exchanges of the clean-up should have been used by now.
        """
        with self._lock:
            unmatched = explain_unmatched(self._unmatched, self._replay)
            varying = what_varies(self._unmatched, self._replay)
            unused = explain_unused(self._replay, in_teardown)
            faults = [f"  {fault}" for fault in self._faults]
        if self._options.allow_unused:
            unused = faults = []
        sections = {
            "Sent, but not answered by anything recorded:": unmatched,
            "Sent by threads that were running before, and should be joined:": self._strangers,
            "Recorded, but not used (allow_unused=True lets that pass):": unused,
            "If what differs does so in every run, recording again does not help. Declare it:": (
                [self._options.declare.format(varying)] if varying else []
            ),
            "To record what is sent now:": [self._options.again] if unmatched or unused else [],
            "Faults that no attempt has met (none is made while the circuit is open):": faults,
        }
        lines = [line for title, body in sections.items() if body for line in ("", title, *body)]
        return "\n".join([f"{self.name} and what was sent do not fit.", *lines]) if lines else None

    def finish(self) -> str | None:
        """End well: see that everything fits, and write the file if it is being made.

        Returns:
            What will probably not fit in the next run, or None.

        Raises:
            RecordingMismatchError: What was sent and what is recorded do not fit.
            RecordingError: The file cannot be made.
        """
        if problem := self.problem():
            raise RecordingMismatchError(problem)
        if self.replays:
            return None
        for request, reason in self._unanswered.items():
            raise RecordingError(f"{self.name} is not written: {request} got no answer ({reason})")
        try:
            write(self.path, self._recorded, self._secrets)
        except RecordingError as error:
            raise RecordingError(f"{self.name} {error}") from None
        requests = [exchange.request for exchange in self._recorded]
        if differing := foreseen(requests, self._options.varying, time.time()):
            hint = "holds what looks as if it differed in every run. If so, declare it:"
            return f"{self.name} {hint}\n{self._options.declare.format(differing)}"
        return None

    def _clock(self) -> float:
        return time.monotonic() + self._simulated_seconds

    def _intercept(self, wire: Endpoint, send: Send) -> Send:
        def attempt(path: str, body: bytes, deadline: float) -> Answer:
            if under_way[-1:] != [self]:
                # Another recording has begun inside this one, or this one is over.
                return send(path, body, deadline)
            commands = json.loads(body)
            asked = Request(path, tuple(map(tuple, [commands] if path == COMMAND else commands)))
            with self._lock:
                if self._faults:
                    return simulated(self._faults.popleft())
                if self.replays:
                    return self._answer(asked)
                self._secrets |= secrets_of(wire.url, wire.token)
                in_teardown = self._in_teardown
            try:
                answer = send(path, body, deadline)
            except UnavailableError as error:
                with self._lock:
                    self._unanswered[asked] = error.reason
                raise
            exchange = Exchange.reduced(asked, answer, in_teardown)
            with self._lock:
                self._recorded.append(exchange)
                self._unanswered.pop(asked, None)
            return _answer_of(exchange)

        return attempt

    def _answer(self, asked: Request) -> Answer:
        if (exchange := self._replay.answer(asked)) is not None:
            return _answer_of(exchange)
        self._unmatched[asked] += 1
        if current_thread() in self._threads_before:
            self._strangers[f"  {current_thread().name}"] = None
        raise NotRecordedError(f"nothing recorded answers {asked}")

    def _load(self) -> list[Exchange]:
        problem = "does not exist. To record it"
        if self.path.exists():
            try:
                return read(self.path, self._secrets)
            except RecordingError as error:
                problem = f"{error}.\nCorrect it, or record it again"
        raise RecordingError(f"{self.name} {problem}:\n{self._options.again}")

    def _none(self) -> list[Exchange]:
        try:
            Settings(os.environ)
        except SettingsError as error:
            raise RecordingError(
                f"{self.name} cannot be recorded: {error}. To do without a database, record "
                f"against the embedded endpoint: {self._options.without_database}"
            ) from None
        return []


def _answer_of(exchange: Exchange) -> Answer:
    headers = {"Content-Length": str(len(exchange.body)), "Content-Type": "application/json"}
    return Answer(exchange.status, {**headers, **exchange.headers}, exchange.body)


def records(path: Path, mode: Mode) -> bool:
    """Whether a recording is to be made rather than replayed."""
    return mode == "all" or (mode == "once" and not path.exists())
