"""One exchange with the endpoint, within its time budget: retries, circuit, pauses."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import errors
from ..commands import Command
from ..logs import log
from ..settings import Secret, check_option
from ..texts import shown, text_of, type_name
from . import seam
from .answers import interpret
from .breaker import Breaker
from .budget import deadline_within, used_up
from .deadline import Attempt
from .failures import forget_locals

if TYPE_CHECKING:
    from .http import Http

# "Exponential backoff and full jitter" (AWS Architecture Blog): the wait before the nth retry is
# anywhere between 0 and FIRST_PAUSE * 2**n. Three retries wait 0.35 s on average, 0.7 s at most,
# which a request handler can bear.
RETRIES = 3
FIRST_PAUSE = 0.1
# For an answer that says to slow down, but not for how long.
LONGEST_PAUSE = 1.0

# With less of its time than this, an exchange that fails says more about the budget than about the
# endpoint.
WHOLE = 0.9

# Handlers of signals and of log records may make a call in the middle of a call, and in the middle
# of that one. A handler that saves for each record that a save causes would never end.
DEEPEST = 2

_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

#: The number of exchanges under way in this context; handlers made all but the first.
_under_way: ContextVar[int] = ContextVar("upstash_state_exchanges", default=0)

# A fork waits until no thread imports, since a child would inherit a lock that nobody releases.
_importing = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire,
        after_in_parent=_importing.release,
        after_in_child=_importing.release,
    )


class Exchange(NamedTuple):
    """An exchange that the endpoint answered.

    Attributes:
        results: For each command the result that its `read` returns, or the `UpstashError` of that
            one command.
        latency: Seconds from its beginning to its answer, retries and pauses included.
        abandoned: Whether an earlier attempt was abandoned, and may still be executed.
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
        clock: The circuit's clock, `time.monotonic` by default.

    Attributes:
        url: The endpoint's address.
        timeout: Seconds that one request may take in all.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        timeout: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.url, self._token, self._clock = url, token, clock
        self.timeout: float = check_option("timeout", timeout)
        self._start()

    def _start(self) -> None:
        self._announced = False
        self._breaker = Breaker(self._clock)
        self._http: Http | None = None
        # Now, since the first use may be in a background thread.
        with suppress(errors.UnavailableError):
            self._http = _new_http(self.url, self._token)
        # Last, so that after an interruption the next call starts again.
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the kept connections. A later call opens new ones."""
        if self._http is not None:
            self._http.close()

    def retry_now(self) -> None:
        """Let the next command be sent even if the endpoint is left alone after failures."""
        (seam.simulated_breaker() or self._breaker).retry_now()

    def exchange(
        self,
        commands: Sequence[Command[Any]],
        *,
        path: str = seam.PIPELINE,
        deadline: float | None = None,
    ) -> Exchange:
        """Send commands in one request, and learn how the exchange went.

        Args:
            commands: What functions of `upstash_state.commands` return.
            path: COMMAND for a single one, whose refusal is raised; PIPELINE; or TRANSACTION for
                all or nothing.
            deadline: When it must have ended, on `time.monotonic()`'s clock. It can only shorten
                what the client's timeout and a `time_budget` leave.

        Returns:
            Each command's result or `UpstashError`, and how the exchange went.

        Raises:
            ResponseError: The endpoint refused the request as a whole.
            UnavailableError: The endpoint could not be reached or did not work.
        """
        if os.getpid() != self._pid:
            # A child shares no socket with its parent, and waits for no lock or probe of a thread
            # that only its parent has.
            self._start()
        began = time.monotonic()
        end = deadline_within(self.timeout)
        if deadline is not None and deadline < end:
            end = deadline
        left = end - began
        if left <= 0:
            raise used_up()
        depth = _under_way.get()
        if depth > DEEPEST:
            text = "not sent: a handler calls for what its own calls make happen"
            raise errors.UnavailableError(text, may_have_executed=False)
        breaker = seam.simulated_breaker() or self._breaker
        probe = breaker.enter(left)
        # In a copy of the context, so that an interruption cannot leave the raised depth behind.
        context = copy_context()
        context.run(_under_way.set, depth + 1)
        try:
            answers, abandoned = context.run(self._attempts, commands, path, end, left)
        except BaseException as error:
            if _is_outage(error, whole=left >= self.timeout * WHOLE):
                breaker.failed(error, probe=probe)
            elif isinstance(error, errors.ResponseError):
                breaker.succeeded()
            elif probe:
                breaker.retry_now()
            raise
        latency = time.monotonic() - began
        breaker.succeeded()
        if not self._announced:
            self._announced = True
            log.info("Redis connection established")
        results = [command.read(answer) for command, answer in zip(commands, answers)]
        # A frame of a traceback must not hold what the endpoint may have repeated.
        del answers
        if abandoned:
            for result in results:
                if isinstance(result, errors.UpstashError):
                    result.may_have_executed = True
        if path == seam.COMMAND and isinstance(results[0], errors.UpstashError):
            raise results[0]
        return Exchange(results, latency, abandoned)

    def _attempts(
        self, commands: Sequence[Command[Any]], path: str, deadline: float, patience: float
    ) -> tuple[list[Any], bool]:
        """Make attempts until one is answered.

        Returns:
            What each command was answered, and whether an earlier attempt was abandoned.
        """
        alone = path == seam.COMMAND
        attempt = Attempt(repeatable=all(command.repeatable for command in commands))
        if self._http is None:
            self._http = _new_http(self.url, self._token)
        send = seam.intercepted(self._http, partial(self._http.send, attempt))
        retries, abandoned = 0, False
        while True:
            args = [command.renew() if command.renew else command.args for command in commands]
            body = _encode(args[0] if alone else args).encode()
            try:
                answer = send(path, body, deadline)
                expected = None if alone else len(commands)
                return interpret(answer, expected, body, self._token), abandoned
            except BaseException as error:
                # Answers may repeat headers and data, so no traceback's frame may keep them.
                answer = None
                forget_locals(error)
                if isinstance(error, errors.ResponseError):
                    error.may_have_executed = abandoned
                if not isinstance(error, errors.UnavailableError):
                    raise
                abandoned = error.may_have_executed = abandoned or error.may_have_executed
                if not error.transient or (abandoned and not attempt.repeatable):
                    raise
                patient = isinstance(error, errors.SlowDownError)
                wait = error.retry_after
                # After 429 there is always a pause, whatever the endpoint says.
                if wait is None or (patient and not wait):
                    # Not imported above, since that takes several ms, which each app would pay.
                    from random import uniform

                    wait = uniform(0, min(FIRST_PAUSE * 2 ** min(retries, 10), LONGEST_PAUSE))
                retries += 1
                # Pauses count as well, since the clock may stand still (freezegun).
                patience -= wait
                late = patience <= attempt.unspent or time.monotonic() + wait >= deadline
                if late or (retries > RETRIES and not patient):
                    raise
            if wait and seam.simulated_breaker() is None:
                time.sleep(wait)


def _new_http(url: str, token: Secret) -> Http:
    with _importing:
        if "ssl" not in sys.modules:
            # Imported while pytest-socket replaces the class of sockets, TLS would inherit from
            # its class for good.
            import socket

            try:
                socket.socket().close()
            except Exception as error:
                text = f"{type_name(error)}: {shown(text_of(error))}"
                raise errors.UnavailableError(text, may_have_executed=False) from error
        from .http import Http

    return Http(url, token)


def _is_outage(error: BaseException, *, whole: bool) -> bool:
    """Return whether an error means that other calls would fail, too.

    Args:
        error: What the exchange raised.
        whole: Whether it had the whole time of a call.
    """
    if isinstance(error, errors.AuthenticationError):
        return True
    if isinstance(error, errors.EndpointTimeoutError):
        # A short budget says nothing about a call that has the whole time.
        return whole
    if not isinstance(error, errors.UnavailableError) or error.reason == "local":
        return False
    # A status 4xx is about this request (RFC 9110, section 15.5): a gateway may refuse one order.
    # An endpoint that refuses requests as too large or too frequent works.
    refused = isinstance(error, errors.AnswerError) and error.reason in ("status", "too-large")
    return not refused and not isinstance(error, errors.SlowDownError)
