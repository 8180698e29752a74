"""Recorded answers for the tests of apps that use this package, without network or account.

With pytest, use the plugin's marker or fixture `upstash_recording`. Without it:

    with recording("recordings/save.yaml", mode="once"):
        assert redis_save_order("5866", {"total": 12.5})

Every request of the REST API is a POST to one of three addresses, so a request is matched by what
it asks: its path and its commands, compared as data. Each recorded exchange is used once. Since the
eight functions never raise, what does not match is found at the end, whatever they made of it.

Only the requests of this package are taken, not those that the app makes elsewhere with `requests`:
for these, `responses` and other mocks can be used in the same test.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal, get_args
from unittest import mock

from ..errors import SettingsError
from ..settings import URL_AND_TOKEN, Secret, Settings
from ..shared import reset_client
from ..transport import breaker
from . import hook
from .exchange import Exchange, RecordingError, Request
from .faults import Fault, checked, refusal, simulated
from .match import Replay, Varying, explain_unmatched, explain_unused
from .storage import read, secrets_in, write

__all__ = ["Fault", "Mode", "Recording", "RecordingError", "RecordingMismatchError", "recording"]

Mode = Literal["none", "once", "all"]

# Loopback, so that nothing leaves the machine if it should be asked after all, and plain http,
# because loading a CA bundle would be most of a test's time. Port 1 is served by nobody.
PLACEHOLDER_URL = "http://127.0.0.1:1"
PLACEHOLDER_TOKEN = "no-token-in-replay"


class RecordingMismatchError(RecordingError, AssertionError):
    """Raised at the end when what was sent and what is recorded do not fit."""


class Recording:
    """A recording under way. Made by `recording` and by the fixture `upstash_recording`.

    Attributes:
        path: Its file.
        replays: Whether answers come from the file. If not, the file is being made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Mode = "none",
        *,
        allow_unused: bool = False,
        varying: Iterable[str] = (),
        varying_keys: Iterable[str] = (),
        again: str = "",
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")
        self.path = Path(path)
        self.replays = not records(self.path, mode)
        self._name = _shown(self.path)
        self._again = again or f'    recording({str(path)!r}, mode="all")'
        self._allow_unused = allow_unused
        self._lock = Lock()
        self._faults: deque[Fault] = deque()
        self._unmatched: Counter[Request] = Counter()
        self._recorded: list[Exchange] = []
        self._unanswered: dict[Request, str] = {}
        self._in_teardown = False
        self._secrets = secrets_in(os.environ)
        exchanges = self._load() if self.replays else []
        self._replay = Replay(exchanges, Varying(_strings(varying), _strings(varying_keys)))
        if not self.replays:
            self._check_credentials()

    def __repr__(self) -> str:
        return f"<Recording {self._name}>"

    def fail_next(self, n: int, fault: Fault) -> None:
        """Answer the next `n` requests with a fault. Nothing is sent, recorded or waited for.

        A fault is the end of its request: it is not tried again, and the circuit breaker does not
        count it, so that the request after the last fault is answered.

            upstash_recording.fail_next(2, "outage")

        Args:
            n: How many requests; the PING of a new client is one.
            fault: "outage" (the endpoint cannot be reached), "slow" (the answer does not come
                within the time budget), "wrong token", or "quota" (the plan's commands are used
                up).
        """
        checked(fault)
        with self._lock:
            self._faults.extend([fault] * n)

    # What follows is for `recording` and the pytest plugin.

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take this package's requests, and give the eight functions a client of their own."""
        with ExitStack() as stack:
            if self.replays:
                stack.enter_context(environment(PLACEHOLDER_URL, PLACEHOLDER_TOKEN))
            reset_client()
            stack.callback(reset_client)
            # No test waits until it closes again.
            stack.enter_context(mock.patch.object(breaker, "FAILURES_TO_OPEN", sys.maxsize))
            stack.enter_context(
                hook.replaying(self._answer) if self.replays else hook.observing(self._record)
            )
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
            unmatched = [
                line
                for request, times in self._unmatched.items()
                for line in explain_unmatched(request, times, self._replay)
            ]
            unused = explain_unused(self._replay, in_teardown=in_teardown)
            faults = list(self._faults)
        lines = []
        if unmatched:
            lines += ["", "Sent, but not answered by anything recorded:", *unmatched]
        if unused and not self._allow_unused:
            lines += ["", "Recorded, but not used (allow_unused=True lets that pass):", *unused]
        if faults and not self._allow_unused:
            lines += ["", f"Faults that no request has met: {', '.join(faults)}"]
        if not lines:
            return None
        lines += ["", "To record what is sent now:", self._again]
        return "\n".join([f"{self._name} and what was sent do not fit.", *lines])

    def finish(self) -> None:
        """End well: see that everything fits, and write the file if it is being made.

        Raises:
            RecordingMismatchError: What was sent and what is recorded do not fit.
            RecordingError: The file cannot be made.
        """
        if problem := self.problem():
            raise RecordingMismatchError(problem)
        if not self.replays:
            self._write()

    def _answer(self, asked: Request) -> Exchange:
        with self._lock:
            if self._faults:
                return simulated(asked, self._faults.popleft())
            exchange = self._replay.answer(asked)
            if exchange is None:
                self._unmatched[asked] += 1
                # As a refusal, since those are not tried again.
                return refusal(asked, 400, f"ERR nothing recorded answers {asked}")
        return exchange

    def _record(
        self,
        asked: Request,
        secrets: frozenset[Secret],
        ask: Callable[[], tuple[int, Mapping[str, str], bytes]],
    ) -> Exchange:
        with self._lock:
            self._secrets |= secrets
            in_teardown = self._in_teardown
            if self._faults:
                return simulated(asked, self._faults.popleft())
        try:
            status, headers, body = ask()
        except Exception as error:
            with self._lock:
                self._unanswered[asked] = type(error).__name__
            raise
        exchange = Exchange.reduced(asked, status, headers, body, in_teardown)
        with self._lock:
            self._recorded.append(exchange)
            self._unanswered.pop(asked, None)
        return exchange

    def _load(self) -> list[Exchange]:
        try:
            return read(self.path, self._secrets)
        except FileNotFoundError:
            raise RecordingError(
                f"{self._name} does not exist. To record it:\n{self._again}"
            ) from None
        except RecordingError as error:
            raise RecordingError(
                f"{self._name} {error}.\nCorrect it, or record it again:\n{self._again}"
            ) from None

    def _check_credentials(self) -> None:
        try:
            Settings(os.environ)
        except SettingsError as error:
            raise RecordingError(
                f"{self._name} cannot be recorded: {error}. To do without a database, record "
                "against the embedded endpoint: pytest --upstash-local, or LocalEndpoint of "
                "upstash_state.local"
            ) from None

    def _write(self) -> None:
        for request, error in self._unanswered.items():
            raise RecordingError(f"{self._name} is not written: {request} got no answer ({error})")
        try:
            write(self.path, self._recorded, self._secrets)
        except RecordingError as error:
            raise RecordingError(f"{self._name} {error}") from None


@contextmanager
def recording(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "none",
    allow_unused: bool = False,
    varying: Iterable[str] = (),
    varying_keys: Iterable[str] = (),
) -> Iterator[Recording]:
    """Replay or make a recording, for unittest and scripts. Works as a decorator, too.

    On replay the environment holds a placeholder URL and token, and no socket is opened. A file
    being made is written only when the block ends without an exception; what it is made from are
    the credentials in the environment.

    Args:
        path: The recording's file.
        mode: "none" to replay only, "once" to record if there is no file, "all" to record anew.
        allow_unused: Whether recorded exchanges, and faults, may stay unused.
        varying: What differs from run to run in stored JSON and is compared by shape, as paths:
            `created_at`, `customer.id`, `status_history[].timestamp`. Answers that hold what was
            recorded for them get what was sent.
        varying_keys: Patterns of Redis keys with `*` for the part that differs: `order:*`.

    Yields:
        The recording, for its `fail_next`.

    Raises:
        RecordingMismatchError: At the end, when what was sent and what is recorded do not fit.
            An exception that is already under way is not replaced; it gets a note.
        RecordingError: The file cannot be used, or not be made.
    """
    taken = Recording(
        path, mode, allow_unused=allow_unused, varying=varying, varying_keys=varying_keys
    )
    with taken.running():
        try:
            yield taken
        except Exception as error:
            if (problem := taken.problem()) and hasattr(error, "add_note"):
                error.add_note(problem)
            raise
    taken.finish()


def records(path: Path, mode: Mode) -> bool:
    """Whether a recording is to be made rather than replayed."""
    return mode == "all" or (mode == "once" and not path.exists())


@contextmanager
def environment(url: str, token: str) -> Iterator[None]:
    """Let the environment name this endpoint for a while."""
    names = URL_AND_TOKEN[0]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(zip(names, (url, token), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _strings(given: Iterable[str]) -> Iterable[str]:
    return (given,) if isinstance(given, str) else given


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
