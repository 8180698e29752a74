"""One exchange with the endpoint, within its time budget: retries, circuit, pauses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from json import JSONEncoder
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    AnswerTooLargeError,
    EndpointTimeoutError,
    ResponseError,
    UnavailableError,
)
from . import seam
from .answers import interpret
from .breaker import Breaker
from .budget import deadline_within
from .late import attempt_given_up
from .wire import Wire

if TYPE_CHECKING:
    from ..settings import Secret

# "Exponential backoff and full jitter" (AWS Architecture Blog): the wait before the nth retry is
# anywhere between 0 and FIRST_PAUSE * 2**n. Three retries wait 0.35 s on average, 0.7 s at most,
# which a request handler can bear.
RETRIES = 3
FIRST_PAUSE = 0.1

log = getLogger("upstash_state")

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Success(NamedTuple):
    """An exchange that the endpoint answered."""

    #: When it ended, the time of day in seconds.
    at: float
    #: Seconds from its beginning to its answer.
    latency: float


class Transport:
    """Sends commands to one endpoint, from any number of threads, before and after a fork.

    Args:
        url: The endpoint's address, checked.
        token: The REST token, checked.
        timeout: Seconds that one exchange may take in all, its retries and pauses included.
        breaker: What decides whether the endpoint is left alone.
        pause: Waits for so many seconds; `time.sleep` when left out.
        jitter: Picks a number of seconds between two.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        timeout: float,
        breaker: Breaker | None = None,
        pause: Callable[[float], None] | None = None,
        jitter: Callable[[float, float], float] | None = None,
    ) -> None:
        self.url = url
        self._token = token
        self._timeout = timeout
        self._breaker = breaker or Breaker()
        self._pause = pause
        self._jitter = jitter
        self._start()

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def _start(self) -> None:
        self._pid = os.getpid()
        #: The last exchange, if it was answered.
        self.last_success: Success | None = None
        self._announced = False
        self._wire = Wire(self.url, self._token)

    def close(self) -> None:
        """Close the kept connections. The next exchange opens a new one."""
        self._wire.close()

    def retry_now(self) -> None:
        """Let the next call through, even if the circuit is open."""
        (seam.simulated_breaker() or self._breaker).retry_now()

    def run(self, command: Sequence[str], *, repeatable: bool) -> Any:
        """Run one command.

        Args:
            command: Its name and arguments.
            repeatable: Whether it may be sent again when it may have been executed already.

        Returns:
            Its result.

        Raises:
            ResponseError: The endpoint refused.
            UnavailableError: It could not be reached or did not work.
        """
        return self._exchange(seam.COMMAND, command, None, repeatable)

    def run_many(
        self, path: str, commands: Sequence[Sequence[str]], *, repeatable: bool
    ) -> list[Any]:
        """Run several commands in one request.

        Args:
            path: PIPELINE, or TRANSACTION for all or nothing.
            commands: Each one's name and arguments.
            repeatable: Whether all may be sent again when they may have been executed already.

        Returns:
            For each command its result, or the `ResponseError` that it was refused with.

        Raises:
            ResponseError: The endpoint refused the request as a whole.
            UnavailableError: It could not be reached or did not work.
        """
        return list(self._exchange(path, commands, len(commands), repeatable))

    def _exchange(
        self, path: str, payload: Sequence[Any], expected: int | None, repeatable: bool
    ) -> Any:
        if os.getpid() != self._pid:
            # Sockets must not be shared with the parent, nor may a lock or a probe be waited for
            # that a thread of the parent holds.
            self._breaker = Breaker()
            self._start()
        body = _encode(payload).encode()
        deadline = deadline_within(self._timeout)
        if time.monotonic() >= deadline:
            raise EndpointTimeoutError(
                "not asked: the time budget was used up before",
                reason="budget",
                transient=True,
                may_have_executed=False,
            )
        breaker = seam.simulated_breaker() or self._breaker
        probe = breaker.enter()
        news = False
        began, answered = time.monotonic(), True
        try:
            result = self._until(deadline, path, body, expected, repeatable)
            news = True
        except ResponseError:
            news = True
            breaker.succeeded()
            raise
        except AnswerTooLargeError:
            # It works, but cannot be asked for that much at once.
            raise
        except UnavailableError as error:
            news = True
            answered = False
            breaker.failed(error, probe=probe)
            raise
        finally:
            answered = answered and news
            latency = time.monotonic() - began
            self.last_success = Success(time.time(), latency) if answered else None
        if answered and not self._announced:
            self._announced = True
            log.info("Redis connection established")
            if not news:
                breaker.abandoned(probe=probe)
        breaker.succeeded()
        return result

    def _until(
        self, deadline: float, path: str, body: bytes, expected: int | None, repeatable: bool
    ) -> Any:
        send = seam.intercepted(self._wire, self._wire.sender(repeatable=repeatable))
        retries = 0
        late = False
        while True:
            try:
                return interpret(send(path, body, deadline), expected, secret=self._token)
            except UnavailableError as error:
                if error.may_have_executed:
                    attempt_given_up()
                    late = True
                error.may_have_executed = late
                if not error.transient or (error.may_have_executed and not repeatable):
                    raise
                wait = self._wait(retries) if error.retry_after is None else error.retry_after
                retries += 1
                if retries > RETRIES or time.monotonic() + wait >= deadline:
                    raise
            if wait and seam.simulated_breaker() is None:
                (self._pause or time.sleep)(wait)

    def _wait(self, retries: int) -> float:
        if self._jitter is None:
            from random import uniform

            self._jitter = uniform
        return self._jitter(0, FIRST_PAUSE * 2**retries)
