"""One exchange with the endpoint, within its time budget: retries, circuit, pauses."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from json import JSONEncoder
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import errors
from ..settings import Secret
from . import seam
from .answers import interpret
from .breaker import Breaker
from .budget import deadline_within, is_news
from .late import attempt_given_up

if TYPE_CHECKING:
    from ..commands import Command
    from .wire import Wire

log = getLogger("upstash_state")

# "Exponential backoff and full jitter" (AWS Architecture Blog): the wait before the nth retry is
# anywhere between 0 and FIRST_PAUSE * 2**n. Three retries wait 0.35 s on average, 0.7 s at most,
# which a request handler can bear.
RETRIES = 3
FIRST_PAUSE = 0.1
# When told to slow down without being told for how long.
LONGEST_PAUSE = 1.0

# How much of its own time an exchange must have had for its failure to say something about the
# endpoint rather than about the budget.
WHOLE = 0.9

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Success(NamedTuple):
    """An exchange that the endpoint answered.

    Attributes:
        at: When it ended, the time of day in seconds.
        latency: Seconds from its beginning to its answer.
    """

    at: float
    latency: float


class Exchange(NamedTuple):
    """What an exchange brought that the endpoint answered.

    Attributes:
        results: For each command what its `read` gives, or the `UpstashError` of that one command.
        latency: Seconds from its beginning to its answer, retries and pauses included.
        abandoned: Whether an earlier attempt was given up that may still be executed.
    """

    results: list[Any]
    latency: float
    abandoned: bool


class Transport:
    """Sends commands to one endpoint, from any number of threads, before and after a fork.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
        timeout: Seconds that one exchange may take in all, its retries and pauses included.
        clock: The circuit's clock; `time.monotonic` when left out.
        pause: Waits for so many seconds; `time.sleep` when left out.
        jitter: Picks a number of seconds between two.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        timeout: float,
        clock: Callable[[], float] | None = None,
        pause: Callable[[float], None] | None = None,
        jitter: Callable[[float, float], float] | None = None,
    ) -> None:
        self.url = url
        #: Called with the seconds for which the circuit was open, when the endpoint works again.
        self.on_circuit_close: Callable[[float], None] = _log_closed
        self._token = token
        self._timeout = timeout
        self._clock = clock
        self._pause = pause
        self._jitter = jitter
        self._start()

    def _start(self) -> None:
        #: The last exchange, if it was answered.
        self.last_success: Success | None = None
        self._announced = False
        self._breaker = Breaker(self._clock)
        self._wire: Wire | None = None
        # Last, so that an interruption lets the next call begin anew.
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the kept connections. The next exchange opens a new one."""
        if self._wire is not None:
            self._wire.close()

    def retry_now(self) -> None:
        """Let the next call through, even if the circuit is open."""
        (seam.simulated_breaker() or self._breaker).retry_now()

    def exchange(
        self,
        commands: Sequence[Command[Any]],
        path: str = seam.PIPELINE,
        deadline: float | None = None,
    ) -> Exchange:
        """Send commands in one request.

        Args:
            commands: The commands; with the path COMMAND it is one.
            path: COMMAND, whose refusal is raised; PIPELINE; or TRANSACTION for all or nothing.
            deadline: When it must have ended, on `time.monotonic()`'s clock. It can only shorten
                what the timeout and a `time_budget` leave.

        Raises:
            ResponseError: The endpoint refused the request as a whole.
            UnavailableError: The endpoint could not be reached or did not work.
        """
        if os.getpid() != self._pid:
            # Sockets must not be shared with the parent, nor may a lock or a probe be waited for
            # that a thread of the parent holds.
            self._start()
        alone = path == seam.COMMAND
        payload = [command.args for command in commands]
        body = _encode(payload[0] if alone else payload).encode()
        repeatable = all(command.repeatable for command in commands)
        deadline = min(deadline_within(self._timeout), deadline or math.inf)
        began = time.monotonic()
        left = deadline - began
        if left <= 0:
            text = "not asked: the time budget was used up before"
            raise errors.BudgetError(text, reported=not is_news())
        breaker = seam.simulated_breaker() or self._breaker
        probe = breaker.enter(left)
        answered = news = False
        try:
            expected = None if alone else len(commands)
            answers, abandoned = self._until(deadline, path, body, expected, repeatable)
            answered = True
        except errors.ResponseError:
            answered = True
            raise
        except (errors.AnswerTooLargeError, errors.SlowDownError):
            # It works, but cannot be asked for that much at once, or so often.
            raise
        except errors.UnavailableError as error:
            news = left >= self._timeout * WHOLE and error.reason != "local"
            if news:
                breaker.failed(error, probe=probe)
            raise
        finally:
            if answered:
                latency = time.monotonic() - began
                self.last_success = Success(time.time(), latency)
                seconds_open = breaker.succeeded()
                if seconds_open is not None:
                    self.on_circuit_close(seconds_open)
            else:
                self.last_success = None
                if not news:
                    breaker.abandoned(probe=probe)
        if not self._announced:
            self._announced = True
            log.info("Redis connection established")
        if alone:
            return Exchange([commands[0].read(answers)], latency, abandoned)
        results = [_read(command, answer) for command, answer in zip(commands, answers)]
        if abandoned:
            for result in results:
                if isinstance(result, errors.UpstashError):
                    result.may_have_executed = True
        return Exchange(results, latency, abandoned)

    def _until(
        self, deadline: float, path: str, body: bytes, expected: int | None, repeatable: bool
    ) -> tuple[Any, bool]:
        if self._wire is None:
            _assert_sockets_work()
            from .early import begin_connection

            early = None if seam.intercepts() else begin_connection(self.url, deadline)
            from .wire import Wire

            # Without a lock, which a handler that calls in again would wait for. Of two that are
            # made at the same time, one is used once.
            self._wire = Wire(self.url, self._token, early)
        send = seam.intercepted(self._wire, self._wire.sender(repeatable=repeatable))
        retries = 0
        late = False
        while True:
            try:
                return interpret(send(path, body, deadline), expected, secret=self._token), late
            except errors.ResponseError as error:
                error.may_have_executed = late
                raise
            except errors.UnavailableError as error:
                if error.may_have_executed:
                    attempt_given_up()
                    late = True
                error.may_have_executed = late
                if not error.transient or (error.may_have_executed and not repeatable):
                    raise
                patient = isinstance(error, errors.SlowDownError)
                wait = error.retry_after
                # An endpoint that is asked too often is not asked again at once, whatever it says.
                if wait is None or (patient and not wait):
                    wait = self._wait(retries)
                retries += 1
                if (retries > RETRIES and not patient) or time.monotonic() + wait >= deadline:
                    raise
            if wait and seam.simulated_breaker() is None:
                (self._pause or time.sleep)(wait)

    def _wait(self, retries: int) -> float:
        if self._jitter is None:
            from random import uniform

            self._jitter = uniform
        return self._jitter(0, min(FIRST_PAUSE * 2 ** min(retries, 10), LONGEST_PAUSE))


def _read(command: Command[Any], answer: Any) -> Any:
    if isinstance(answer, errors.UpstashError):
        return answer
    try:
        return command.read(answer)
    except errors.AnswerError as error:
        return error


def _assert_sockets_work() -> None:
    # Imported while sockets are replaced by what forbids them (pytest-socket), TLS would inherit
    # that for good.
    if "ssl" not in sys.modules:
        import socket

        try:
            socket.socket().close()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise errors.UnavailableError(text, may_have_executed=False) from error


def _log_closed(seconds: float) -> None:
    text = "Redis endpoint works again after %.0f s - calls are sent as before"
    log.warning(text, seconds)
