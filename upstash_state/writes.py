"""Turn writes into commands, and results into states of writes. No I/O.

One fresh write is sent as SET with EX, or as DEL; several together as one MSETEX and one DEL.
Delayed writes and marked orders are sent by one script, which checks each key before it writes.
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
from .outbox import Outbox, Write

# Below every plan's limit for a request, which is 10 MB or more.
MAX_BYTES = 4_000_000
# up-redis accepts 1,000 commands in a pipeline; serverless-redis-http executes them one by one.
MAX_WRITES = 500

# Errors of a request that was too large. Half of its writes may succeed.
TOO_LARGE = (KeyTooLargeError, RecordTooLargeError, RequestTooLargeError)
# Errors that a retry cannot fix.
PERMANENT = (DataError, NotRecordedError, *TOO_LARGE)

# ARGV, for each key: whether it is only checked, its TTL in milliseconds, PX and the milliseconds
# until the write expires, the digests of abandoned attempts, and the text ("" deletes the key).
# Every save sets the expiry, so a value that expires later was written later. A value that expires
# later than one TTL from now, or never, was written with another TTL or without one, so its expiry
# says nothing.
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


def page_of(writes: Sequence[Write], outbox: Outbox, size: int = MAX_WRITES) -> list[Write]:
    """Return the first of these writes: as many as fit into one request, but at least one.

    Args:
        writes: The writes to send.
        outbox: The outbox of the writes.
        size: The largest number of writes.
    """
    page = list(writes[:size])
    if len(page) > 1:
        length = 0
        for index, write in enumerate(page):
            length += body_length(write, len(outbox.abandoned(write.key)))
            if length > MAX_BYTES:
                return page[: max(index, 1)]
    return page


def body_length(write: Write, digests: int) -> int:
    """Return the largest number of bytes that a write adds to a request's body.

    Args:
        write: The write.
        digests: The number of abandoned attempts, each of which has a digest.
    """
    # The text of an order has no control characters, so only its quotes and backslashes are
    # escaped. A key may contain control characters, which take six bytes each. The 120 bytes are
    # for options and digits, and each digest takes 41.
    text = write.text or ""
    length = len(text.encode()) + text.count('"') + text.count("\\")
    return 6 * len(write.key) + length + 120 + 41 * digests


def parts_of(writes: Sequence[Write], outbox: Outbox, missing: Iterable[str] = ()) -> list[Part]:
    """Return the commands that send these writes: as few as possible, because each is billed.

    Args:
        writes: The writes to send.
        outbox: The outbox of the writes.
        missing: The commands among "MSETEX" and "EVAL" that the endpoint does not have.
    """
    parts: list[Part] = []
    saves: list[Write] = []
    deletes: list[Write] = []
    scripted: list[Write] = []
    delayed = {write for write in writes if outbox.is_delayed(write)}
    for write in writes:
        if write in delayed and "EVAL" not in missing:
            scripted.append(write)
        elif write.text is None:
            deletes.append(write)
        else:
            saves.append(write)
    alike = len({write.ttl for write in saves}) == 1 and delayed.isdisjoint(saves)
    if len(saves) > 1 and alike and "MSETEX" not in missing:
        values = {write.key: write.text or "" for write in saves}
        parts.append(Part(commands.msetex(values, ex=int(saves[0].ttl)), saves))
    else:
        # SET with EX sets value and expiry at once, so no order is ever without an expiry (Redis's
        # documentation of SET). It can be repeated without harm.
        for write in saves:
            late = write in delayed
            ex, px = (None, _left(write, outbox)) if late else (int(write.ttl), None)
            parts.append(Part(commands.set(write.key, write.text or "", ex=ex, px=px), [write]))
    if scripted:
        parts.append(Part(_script(scripted, outbox), scripted))
    if deletes:
        parts.append(Part(commands.delete(*(write.key for write in deletes)), deletes))
    return parts


def settle(part: Part, result: Any, outbox: Outbox, sent_at: float) -> list[Write]:
    """Report a command's result to the outbox, for each of its writes.

    Args:
        part: The command and its writes.
        result: The result of the command, or its error.
        outbox: The outbox of the writes.
        sent_at: When the request was started, on the outbox's clock.

    Returns:
        The writes that failed.
    """
    failed = []
    each = result if isinstance(result, list) else [result] * len(part.writes)
    for write, outcome in zip(part.writes, each):
        if outcome is None:
            outcome = AnswerError("the endpoint answered SET with null, like a SET with NX")
        if isinstance(outcome, UpstashError):
            if isinstance(outcome, AnswerError):
                # It is not known whether it was executed.
                outbox.abandon(write)
            outbox.fail(write, outcome, for_good=isinstance(outcome, PERMANENT))
            failed.append(write)
        elif write.confirmed:
            outbox.checked(write)
        elif outcome == 0 and part.command.args[0] == "EVAL":
            outbox.supersede(write)
        else:
            outbox.confirm(write, sent_at)
    return failed


def _script(writes: list[Write], outbox: Outbox) -> Command[Any]:
    keys = [write.key for write in writes]

    def args() -> list[str]:
        args = ["EVAL", SCRIPT, str(len(keys)), *keys]
        for write in writes:
            digests = f" {' '.join(outbox.abandoned(write.key))} "
            args += [str(int(write.confirmed)), str(ceil(write.ttl * 1000))]
            args += ["PX", str(_left(write, outbox)), digests, write.text or ""]
        return args

    def read(answer: Any) -> list[int]:
        if (
            not isinstance(answer, list)
            or len(answer) != len(keys)
            or any(one not in (0, 1) for one in answer)
        ):
            raise AnswerError("the endpoint did not answer the script with 0 or 1 for each key")
        return answer

    # Running the script twice leaves the same values as running it once.
    # Each attempt has its own times, because others may write the order between two attempts.
    return Command(args(), read, repeatable=True, renew=args)


def _left(write: Write, outbox: Outbox) -> int:
    # A delayed write expires as if it had been sent in time, because other processes compare
    # expiries to find out which write is newer.
    return max(1, ceil((write.since + write.ttl - outbox.clock()) * 1000))
