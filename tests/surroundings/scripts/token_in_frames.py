"""tracebacks with locals, by rich and `repr`, of all that can fail: no 8 characters of the token"""

import http.client
import io
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, TracebackType
from typing import Any
from unittest.mock import patch

import certifi
from probes import DRIPPING, ORDER, TOKEN, URL
from requests import Session
from rich.console import Console
from rich.pretty import pretty_repr
from rich.traceback import Traceback

from upstash_state import OrderStore, UpstashRedis, redis_save_order, reset_client
from upstash_state.settings import Settings, check_token

PIECES = {TOKEN[i : i + 8] for i in range(len(TOKEN) - 7)}
# What the interpreter shows of a frame is not looked for in this file's own.
OWN = __file__


problems: list[str] = []


def clean(text: str, where: str) -> None:
    lines = [line for line in text.splitlines() if any(piece in line for piece in PIECES)]
    problems.extend(f"{where}: {line.strip()[:200]}" for line in lines)


WAYS: list[Callable[[Any], str]] = [
    repr,
    lambda value: pretty_repr(value, max_string=20),
    lambda value: repr(value[3:40]),
]


def show(value: object, *, deep: bool) -> Iterator[str]:
    for way in WAYS:
        try:
            yield way(value)
        except Exception as error:
            # The frames of a repr that raises are shown, too.
            if deep:
                yield from shown(error.__traceback__, deep=False)


def shown(trace: TracebackType | None, *, deep: bool = True) -> Iterator[str]:
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_code.co_filename != OWN:
            yield from locals_of(frame, deep=deep)


def locals_of(frame: FrameType, *, deep: bool = True) -> Iterator[str]:
    for name, value in frame.f_locals.items():
        where = f"{frame.f_code.co_filename}:{frame.f_code.co_name}: {name}"
        yield from (f"{where} = {text}" for text in show(value, deep=deep))


def walk(error: BaseException, what: str) -> None:
    """Every frame of an exception and of those that it came from."""
    console = Console(width=300, record=True, file=io.StringIO())
    trace = Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_string=200,
        locals_max_length=100,
    )
    console.print(trace)
    clean(console.export_text(), f"{what}, rich")
    link: BaseException | None = error
    while link is not None:
        for text in shown(link.__traceback__):
            clean(text, what)
        link = link.__cause__ or link.__context__


records: list[logging.LogRecord] = []
handler = logging.Handler()
handler.emit = records.append  # type: ignore[method-assign]
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.DEBUG)


def fails(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except BaseException as error:
        assert not isinstance(error, AssertionError)
        walk(error, what)
    else:
        problems.append(f"{what}: did not fail")


def boom(*_: object, **__: object) -> None:
    # As a tracer or an error reporter does that looks at its callers. That http.client has the
    # token while it makes the request's text is no news to what replaces a part of http.client.
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename not in (OWN, http.client.__file__):
        for text in locals_of(frame):
            clean(text, "a frame above what was patched")
        frame = frame.f_back
    raise RuntimeError("boom")


def interrupted() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    UpstashRedis(DRIPPING[0], TOKEN, timeout=5).ping()


def partly_made() -> object:
    # As an error reporter finds it that looks at `self` where the reading of settings failed.
    settings = object.__new__(Settings)
    settings.token = check_token(TOKEN)
    return settings


# Not among the local variables of a function here, which rich shows, too.
WRONG = {"UPSTASH_REDIS_REST_URL": "?", "UPSTASH_REDIS_REST_TOKEN": TOKEN + "\t" + TOKEN}


def from_env(name: str) -> None:
    with patch.dict(os.environ):
        os.environ[name] = WRONG[name]
        OrderStore.from_env()


with socket.create_server(("127.0.0.1", 0)) as listener:
    nobody = f"https://127.0.0.1:{listener.getsockname()[1]}"

fails("refused", UpstashRedis(nobody, TOKEN, timeout=0.5).ping)
with patch.dict(os.environ, {"REQUESTS_CA_BUNDLE": certifi.where()}):
    fails("unknown certificate", UpstashRedis(URL, TOKEN).ping)
fails("time limit", UpstashRedis(DRIPPING[0], TOKEN, timeout=0.3).ping)
fails("wrong token", UpstashRedis(URL, TOKEN + "x").ping)
fails("token with a line break", lambda: UpstashRedis(URL, TOKEN + "\n" + TOKEN))
fails("unknown command", lambda: UpstashRedis(URL, TOKEN).execute_command("NONSENSE"))
for variable in WRONG:
    fails(variable, partial(from_env, variable))
fails("interrupted", interrupted)
for text in show(partly_made(), deep=True):
    clean(text, "Settings that are not complete")

for target, name in (
    (Session, "send"),
    (http.client.HTTPConnection, "putheader"),
    (http.client.HTTPConnection, "_send_output"),
    (http.client.HTTPConnection, "send"),
    (http.client.HTTPConnection, "getresponse"),
    (socket, "getaddrinfo"),
):
    with patch.object(target, name, boom):
        fails(f"{name} raised", UpstashRedis(URL, TOKEN).ping)
        reset_client()
        redis_save_order("5866", ORDER)
for record in records:
    clean(record.getMessage(), "a log line")
    if record.exc_info and record.exc_info[1]:
        walk(record.exc_info[1], "a log record")
booms = sum("boom" in record.getMessage() for record in records if record.name == "upstash_state")
if booms < 6:
    problems.append(f"boom is in {booms} of 6 log lines")
reset_client()
assert redis_save_order("5866", ORDER)
assert not problems, "\n".join(dict.fromkeys(problems))
