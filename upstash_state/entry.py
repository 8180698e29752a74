"""What the ledger keeps: an order's newest text, a text on its way, attempts that may arrive."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from .errors import UpstashError


class Verdict(Enum):
    """What to do with a text after a look at its key."""

    SEND = "the text is not there, or only an older one is"
    HELD = "it is there"
    DROP = "another writer saved after it was given, or it would have expired"


class Entry:
    """The newest text of one order, None for a delete. Only `Ledger` changes it."""

    text: str | None = None
    digest = b""
    size = version = held_version = failed_version = 0
    given_at = ttl = 0.0
    remember = False
    error: UpstashError | None = None
    flight: Flight | None = None

    def __init__(self, key: str) -> None:
        self.key = key
        #: Digests of what this process has sent under the key.
        self.sent: set[bytes] = set()

    @property
    def unsent(self) -> bool:
        return self.held_version < self.version

    @property
    def expires_at(self) -> float:
        return self.given_at + self.ttl


class Ticket(NamedTuple):
    """One save or delete as it was given: done once this version, or a newer one, is held."""

    entry: Entry
    version: int


class Flight:
    """A text on its way. `look`: whether to look at its key first (`Ledger.judge`)."""

    began = until = 0.0
    error: UpstashError | None = None

    def __init__(self, entry: Entry, owner: object) -> None:
        self.entry, self.version, self.owner = entry, entry.version, owner
        self.text, self.digest = entry.text, entry.digest
        self.look = entry.failed_version == entry.version or not entry.unsent


class Late:
    """Attempts that were given up and may still arrive: when the last one was, and of what."""

    at = 0.0

    def __init__(self) -> None:
        self.digests: set[bytes] = set()


def digest_of(text: str | None) -> bytes:
    # OpenSSL, which it loads, takes a sixth of the time that importing the package would.
    from hashlib import blake2b

    return b"" if text is None else blake2b(text.encode(), digest_size=16).digest()
