"""Recordings in use: intercept requests, and answer or record them."""

from __future__ import annotations

import atexit
import inspect
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from copy import copy
from functools import wraps
from http.client import HTTPConnection
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args
from urllib.parse import urlsplit

from ..environment import environment
from ..errors import NotRecordedError, SettingsError, UnavailableError
from ..process import reset_client
from ..settings import URL_AND_TOKEN, Secret, Settings, is_loopback, unquoted
from ..transport import COMMAND, Answer, Endpoint, Send, guarding, intercepting
from .exchange import Exchange, RecordingError, Request
from .explain import mismatches, to_declare
from .faults import Fault, simulated
from .file import read, write
from .match import Replay, Varying

if TYPE_CHECKING:
    from ..local import LocalEndpoint

log = getLogger("upstash_state")

Mode = Literal["none", "once", "all"]

# Loopback, so that nothing leaves the machine, and a port that no server uses.
_PLACEHOLDER = ("http://127.0.0.1:1", "no-token-in-replay")
PLACEHOLDERS = {name: text for pair in URL_AND_TOKEN for name, text in zip(pair, _PLACEHOLDER)}

#: The recordings in use, the innermost last: that one gets the requests.
in_use: list[Recording] = []

_RUNNING_LATER = (
    *(inspect.isclass, inspect.isgeneratorfunction, inspect.isasyncgenfunction),
    *(inspect.isgenerator, inspect.isasyncgen, inspect.iscoroutine),
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class RecordingMismatchError(RecordingError, AssertionError):
    """Raised at the end when the requests of a run do not fit the recorded ones."""


class Recording:
    """Replay a recording or make one, for unittest and scripts.

    A context manager, and a decorator of functions and coroutine functions. During a replay the
    environment has a placeholder URL and token, and no socket is opened. To record, the environment
    must name a database. The file is written only if the block ends without an exception, and no
    subtest of unittest failed in it.

    Args:
        path: The recording's file.
        mode: "none" to replay only, "once" to record if there is no file, "all" to record again.
        allow_unused: Whether recorded exchanges, and faults, may stay unused.
        varying: Values in stored JSON that differ from run to run and are compared by their kind,
            as paths: `created_at`, `customer.id`, `status_history[].timestamp`. Answers return the
            values of this run.
        varying_keys: Patterns of Redis keys with `*` for the part that differs: `order:*`.

    Attributes:
        path: The recording's file.
        replays: Whether the file's answers are used. If False, requests are sent and recorded.

    Raises:
        RecordingMismatchError: At the end, if the requests do not fit the recorded ones. An
            exception of the block is not replaced; it gets a note.
        RecordingError: The file cannot be used, or cannot be written.
        TypeError: A class or a generator function is decorated.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "none",
        allow_unused: bool = False,
        varying: Iterable[str] = (),
        varying_keys: Iterable[str] = (),
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.path, self._mode = Path(path), mode
        #: The file's name, short if it is inside the working directory.
        self.name = short(self.path)
        self._varying, self._allow_unused = Varying.of(varying, varying_keys), allow_unused
        #: How to record again, and how to declare what varies.
        self.again = f'    recording({str(path)!r}, mode="all")'
        self.declare = f"    recording({str(path)!r}, {{}})"
        #: Whether to record with the embedded endpoint instead of the database.
        self.local = False
        #: The embedded endpoint, while it is recorded.
        self.endpoint: LocalEndpoint | None = None

    def fail_next(self, n: int, fault: Fault) -> None:
        """Let the next `n` attempts fail. They are neither sent nor recorded.

        The package reacts as it does in production, but nothing waits: an outage is retried three
        times, so one call that fails takes four attempts, and after three such calls the circuit
        opens (see `wait`). The other faults are not retried.

            upstash_recording.fail_next(4, "outage")

        Args:
            n: The number of attempts.
            fault: "outage" (the endpoint cannot be reached), "slow" (no answer within the time
                budget), "wrong token", or "quota" (the plan's commands are used up).
        """
        if fault not in get_args(Fault):
            raise ValueError(f"fault must be one of {', '.join(get_args(Fault))}, not {fault!r}")
        with self._lock:
            self._faults.extend([fault] * n)

    def wait(self, seconds: float) -> None:
        """Let simulated time pass, after which an open circuit lets a call through again.

        Args:
            seconds: How long: the circuit stays open for 5 s at first, for 60 s at most.
        """
        self._simulated_seconds += seconds

    def __enter__(self) -> Recording:
        self._stack = ExitStack()
        self._stack.enter_context(self.running())
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._stack.close()
        if error is not None:
            if problem := self.problem(failed=True):
                # Exceptions of Python 3.10 take no notes.
                getattr(error, "add_note", log.warning)(problem)
        elif _a_subtest_failed() and not self.replays:
            log.warning("%s is not written, because the test did not pass", self.name)
        else:
            said, *hints = self.finish() or [""]
            log.info(said)
            for hint in hints:
                log.warning(hint)

    def __call__(self, function: _Function) -> _Function:
        _refuse_if_running_later(function, function)

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                return await function(*args, **kwargs)

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with copy(self):
                result = function(*args, **kwargs)
                # Another decorator may have hidden what kind of function this is.
                _refuse_if_running_later(function, result)
                return result

        return cast(_Function, awaited if inspect.iscoroutinefunction(function) else called)

    # The rest is for the pytest plugin.

    @contextmanager
    def running(self) -> Iterator[None]:
        """Intercept this package's requests, and give the functions a client of their own.

        Raises:
            RecordingError: The file cannot be used, or nothing can be recorded.
        """
        self.replays = self._mode == "none" or (self._mode == "once" and self.path.exists())
        #: Whether the test itself is over, so that requests belong to a fixture's clean-up.
        self.in_teardown = False
        #: Whether the test passed, as far as the pytest plugin knows.
        self.passed = False
        self._lock = threading.Lock()
        self._faults: deque[Fault] = deque()
        self._recorded: list[Exchange] = []
        self._unanswered: dict[Request, str] = {}
        self._simulated_seconds = 0.0
        self._thread = threading.current_thread()
        self._threads_before = {*threading.enumerate()}
        with ExitStack() as stack:
            if self.local and not self.replays:
                from ..local import LocalEndpoint

                # Inside a wider recording, its endpoint holds what the wider fixtures have saved.
                wider = next((one.endpoint for one in in_use if one.endpoint), None)
                self.endpoint = wider or stack.enter_context(LocalEndpoint())
                url_and_token = zip(URL_AND_TOKEN[0], (self.endpoint.url, self.endpoint.token))
                stack.enter_context(environment(**dict(url_and_token)))
            tokens = [unquoted(os.environ.get(name, "")) for _, name in URL_AND_TOKEN]
            self._secrets = set(map(Secret, tokens))
            try:
                self._replay = Replay(self._exchanges(), self._varying)
            except RecordingError as error:
                raise RecordingError(f"{self.name} {error}. To record it:\n{self.again}") from None
            if self.replays:
                stack.enter_context(environment(**PLACEHOLDERS))
                # An app that saves in an exit handler must not save a test's data to a database.
                # Exit handlers run in reverse order, so this one is registered after the app's.
                stack.callback(atexit.register, guarding(_refuse).__enter__)
            reset_client(flush=False)
            stack.callback(reset_client, flush=False)
            # Simulated also while recording, so that a replay has the same circuit and retries.
            stack.enter_context(
                intercepting(self._intercept, simulated=True, clock=self._clock, one_by_one=True)
            )
            in_use.append(self)
            stack.callback(in_use.remove, self)
            yield

    def _exchanges(self) -> list[Exchange]:
        if self.replays:
            return read(self.path, self._secrets)
        try:
            Settings()
        except SettingsError as error:
            hint = "upstash-state serve starts a database to record with"
            raise RecordingError(f"cannot be recorded: {error}; {hint}") from None
        return []

    def problem(self, *, failed: bool = False) -> str | None:
        """Describe what does not fit so far, with a summary in the first line, or return None.

        Args:
            failed: Whether the test has failed, so that it may not have sent all requests.
        """
        lenient = failed or self._allow_unused
        with self._lock:
            exchanges, left = self._replay.exchanges, [] if lenient else self._replay.unused
            left = [index for index in left if self.in_teardown or not exchanges[index].in_teardown]
            lines, values = mismatches(self._replay, left, os.environ)
            advice = [f"To record what is sent now:\n{self.again}"] if lines else []
            if new := to_declare(values, self._varying, time.time(), ids=True):
                declare = self.declare.format(new)
                advice.insert(0, f"If these values differ in every run, declare them:\n{declare}")
            if self._faults and not lenient:
                hint = "an open circuit makes no attempts"
                lines.append(f"unused faults: {', '.join(self._faults)} ({hint})")
        text = "\n".join([*lines, "", f"{self.name} does not fit this run.", *advice])
        return text if lines else None

    def finish(self) -> list[str]:
        """Check that everything fits, and write the file unless it is replayed.

        Returns:
            Messages for the user about the file, unless it is replayed.

        Raises:
            RecordingMismatchError: The requests of the run do not fit the recorded ones.
            RecordingError: The file cannot be written.
        """
        if problem := self.problem():
            raise RecordingMismatchError(problem)
        if self.replays:
            return []
        for request, reason in self._unanswered.items():
            raise RecordingError(f"{self.name} is not written: {request} got no answer ({reason})")
        try:
            changed = write(self.path, self._recorded, self._secrets, self._varying)
        except RecordingError as error:
            raise RecordingError(f"{self.name} {error}") from None
        state = "recorded" if changed else "unchanged"
        said = [f"{self.name} {state}, exchanges: {len(self._recorded)}"]
        values = (value for one in self._recorded for value in self._varying.values(one.request))
        if new := to_declare(values, self._varying, time.time(), ids=False):
            hint = "holds values that seem to differ in every run. If so, declare them:"
            said.append(f"{self.name} {hint}\n{self.declare.format(new)}")
        return said

    def _clock(self) -> float:
        return time.monotonic() + self._simulated_seconds

    def _intercept(self, wire: Endpoint, send: Send) -> Send:
        def attempt(path: str, body: bytes, deadline: float) -> Answer:
            if in_use[-1:] != [self]:
                # Another recording was started inside this one, or this one has ended.
                return send(path, body, deadline)
            commands = json.loads(body)
            asked = Request(path, tuple(map(tuple, [commands] if path == COMMAND else commands)))
            with self._lock:
                if self._faults:
                    return simulated(self._faults.popleft())
                if self.replays:
                    thread = threading.current_thread()
                    stranger = thread.name if thread in self._threads_before else None
                    name = "" if thread is self._thread else stranger
                    if (found := self._replay.answer(asked, name)) is not None:
                        return _answer_of(found)
                    raise NotRecordedError(f"the recording has no answer for {asked}")
                self._secrets |= {wire.token, Secret(urlsplit(wire.url).hostname or "")}
            try:
                local = self.endpoint
                answer = _ask(local, path, body) if local else send(path, body, deadline)
            except UnavailableError as error:
                self._unanswered[asked] = error.reason
                raise
            exchange = self._ordered(Exchange.reduced(asked, answer, self.in_teardown))
            self._recorded.append(exchange)
            self._unanswered.pop(asked, None)
            return _answer_of(exchange)

        return attempt

    def _ordered(self, exchange: Exchange) -> Exchange:
        """Return the exchange with SCAN's keys in an order that is the same in each run.

        Redis promises none. Keys are sorted by name; those that vary follow, as last used.
        """
        used = [key for one in self._recorded for key in one.request.keys]
        places = {key: place for place, key in enumerate(used)}

        def rank(key: object) -> tuple[int, str]:
            name = str(key)
            varies = self._varying.covers(name, name)
            return places.get(name, len(used)) if varies else -1, name

        answer = exchange.answer
        items = answer if isinstance(answer, list) else [answer]
        for command, item in zip(exchange.request.commands, items):
            match command[0], item:
                case "SCAN", {"result": [_, list(keys)]}:
                    keys.sort(key=rank)
        return exchange if answer is None else exchange.with_answer(answer)


def _ask(endpoint: LocalEndpoint, path: str, body: bytes) -> Answer:
    """Send a request to the embedded endpoint, even if fixtures mock requests or set a URL."""
    with closing(HTTPConnection(urlsplit(endpoint.url).netloc)) as connection:
        headers = {"Authorization": f"Bearer {endpoint.token}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())


def _answer_of(exchange: Exchange) -> Answer:
    # Without a length, an empty body would be one that was cut.
    headers = {"Content-Length": str(len(exchange.body)), **exchange.headers}
    return Answer(exchange.status, headers, exchange.body)


def short(path: Path) -> str:
    """Return a path, relative if it is inside the working directory."""
    return str(path).removeprefix(f"{Path.cwd()}{os.sep}")


def _refuse(host: str) -> None:
    if not is_loopback(host):
        raise NotRecordedError("connection refused at exit, since this process replayed recordings")


def _refuse_if_running_later(function: Callable[..., Any], value: object) -> None:
    if any(kind(value) for kind in _RUNNING_LATER):
        raise TypeError(
            f"{function.__qualname__} would run after the recording has ended: decorate functions "
            "or coroutine functions, or write `with recording(…):` inside them"
        )


def _a_subtest_failed() -> bool:
    """Return whether a subtest failed in the unittest test that is running, if one is."""
    unittest, frame = sys.modules.get("unittest"), sys._getframe()
    while unittest and (frame := frame.f_back):  # type: ignore[assignment]
        case: Any = frame.f_locals.get("self")
        if issubclass(type(case), unittest.TestCase):
            # unittest keeps a subtest's exception here until the test has ended.
            return not getattr(getattr(case, "_outcome", None), "success", True)
    return False
