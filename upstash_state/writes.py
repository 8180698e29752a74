"""Requests made of writes, and what the results mean for them. Pure: no I/O.

A fresh write is a SET with EX or a DEL, and several are one MSETEX or one DEL. Delayed writes, and
orders that were marked, are one script, which looks at each key before it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, NamedTuple

from . import commands
from .commands import Command
from .errors import (
    AnswerError,
    DataError,
    KeyTooLargeError,
    NotRecordedError,
    RecordTooLargeError,
    RequestTooLargeError,
    UpstashError,
)
from .outbox import MAX_DIGESTS, Outbox, Write

# Below every plan's limit for a request, which is 10 MB or more.
MAX_BYTES = 4_000_000
# up-redis accepts 1,000 commands in a pipeline; serverless-redis-http executes them one by one.
MAX_WRITES = 500

# Errors of many writes together that a few of them may not have.
TOO_LARGE = (KeyTooLargeError, RecordTooLargeError, RequestTooLargeError)
# Errors that a retry cannot fix.
PERMANENT = (DataError, NotRecordedError, *TOO_LARGE)

# ARGV, for each key: whether it is only checked, its TTL in milliseconds, PX and the milliseconds
# that the write has left, the digests of abandoned attempts, and the text ("" deletes the key).
# Every save sets the expiry, so a value that expires later was written later. If it lasts longer
# than one TTL, its writer uses another TTL, or none, and its expiry says nothing.
SCRIPT = """\
local done = {}
for i, key in ipairs(KEYS) do
  local check, ttl, px, left, digests, text = unpack(ARGV, 6 * i - 5, 6 * i)
  local write = true
  local expires = check == '1' and 0 or redis.call('PTTL', key)
  if check == '1' or (expires > tonumber(left) and expires <= tonumber(ttl)) then
    local stored = redis.pcall('GET', key)
    local digest = 'other type'
    if type(stored) == 'string' then digest = redis.sha1hex and redis.sha1hex(stored) end
    if not stored then digest = '-' end
    write = digest and string.find(digests, ' ' .. digest .. ' ', 1, true) ~= nil
  end
  if write and text == '' then
    redis.call('DEL', key)
  elseif write then
    redis.call('SET', key, text, px, left)
  end
  done[i] = write and 1 or 0
end
return done
"""


class Part(NamedTuple):
    """One command of a request, and the writes that it sends."""

    command: Command[Any]
    writes: list[Write]


def page_of(writes: Sequence[Write], start: int = 0, size: int = MAX_WRITES) -> list[Write]:
    """Return the writes that one request may have.

    Args:
        writes: What to send.
        start: The index of the first one.
        size: How many there may be.
    """
    page = list(writes[start : start + 1])
    if len(writes) > start + 1:
        length = body_length(page[0])
        for write in writes[start + 1 : start + size]:
            length += body_length(write)
            if length > MAX_BYTES:
                break
            page.append(write)
    return page


def body_length(write: Write) -> int:
    """At most how many bytes a write adds to a request's body."""
    # JSON text has no bare control characters, so quotes and backslashes are what is escaped. A
    # key may have some, at six bytes each. The rest is options, digits and digests of 41 bytes.
    text = write.text or ""
    length = len(text.encode()) + text.count('"') + text.count("\\")
    return 6 * len(write.key) + length + 120 + 41 * MAX_DIGESTS


def parts_of(writes: Iterable[Write], outbox: Outbox, missing: Iterable[str] = ()) -> list[Part]:
    """Make the commands that send some writes, as few as possible, since each is billed.

    Args:
        writes: What to send.
        outbox: Where they come from.
        missing: Commands that the endpoint does not have, of "MSETEX" and "EVAL".
    """
    parts: list[Part] = []
    saves: list[Write] = []
    deletes: list[Write] = []
    delayed: list[Write] = []
    for write in writes:
        if not outbox.is_delayed(write):
            (deletes if write.text is None else saves).append(write)
        elif "EVAL" not in missing:
            delayed.append(write)
        elif write.text is None:
            deletes.append(write)
        else:
            late = commands.set(write.key, write.text, px=_left(write, outbox))
            parts.append(Part(late, [write]))
    together = len(saves) > 1 and "MSETEX" not in missing
    if together and len({write.ttl for write in saves}) == 1:
        values = {write.key: write.text or "" for write in saves}
        parts.append(Part(commands.msetex(values, ex=int(saves[0].ttl)), saves))
    else:
        # Expiry and value in one command, so that no order is ever without an expiry (Redis's
        # documentation of SET). Sent twice, it leaves the same.
        for write in saves:
            fresh = commands.set(write.key, write.text or "", ex=int(write.ttl))
            parts.append(Part(fresh, [write]))
    if delayed:
        parts.append(Part(_script(delayed, outbox), delayed))
    if deletes:
        parts.append(Part(commands.delete(*(write.key for write in deletes)), deletes))
    return parts


def settle(
    part: Part, result: Any, outbox: Outbox, sent_at: float, *, catch_up: bool
) -> list[Write]:
    """Report to the outbox what a command's result says about its writes.

    Args:
        part: The command and its writes.
        result: What the endpoint answered, or the error.
        outbox: Where the writes come from.
        sent_at: When the request was started, on the outbox's clock.
        catch_up: Whether a write that failed stays pending.

    Returns:
        The writes that failed.
    """
    failed = []
    each = result if isinstance(result, list) else [result] * len(part.writes)
    for write, outcome in zip(part.writes, each):
        if outcome is None:
            outcome = AnswerError("SET was answered with null, like a SET with NX")
        if isinstance(outcome, UpstashError):
            outbox.fail(write, outcome, keep=catch_up and not isinstance(outcome, PERMANENT))
            failed.append(write)
        elif write.confirmed:
            outbox.checked(write)
        elif outcome == 0 and part.command.args[0] == "EVAL":
            outbox.supersede(write)
        else:
            outbox.confirm(write, sent_at)
    return failed


def _script(writes: list[Write], outbox: Outbox) -> Command[Any]:
    args = []
    for write in writes:
        ttl, left = ceil(write.ttl * 1000), _left(write, outbox)
        digests = f" {' '.join(outbox.abandoned(write.key))} "
        args += [str(int(write.confirmed)), str(ttl), "PX", str(left), digests, write.text or ""]
    keys = [write.key for write in writes]

    def read(answer: Any) -> list[int]:
        if (
            not isinstance(answer, list)
            or len(answer) != len(keys)
            or any(one not in (0, 1) for one in answer)
        ):
            raise AnswerError("the script was not answered with 0 or 1 for each key")
        return answer

    # The second time, it leaves the same.
    return Command(["EVAL", SCRIPT, str(len(keys)), *keys, *args], read, repeatable=True)


def _left(write: Write, outbox: Outbox) -> int:
    # What is delayed expires as if it had been sent in time: by the expiry, other processes tell
    # what is newer.
    return max(1, ceil((write.since + write.ttl - outbox.clock()) * 1000))
