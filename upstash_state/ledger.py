"""What this process knows of each order: the newest text it was given, and whether Redis holds it.

Pure: no I/O, no lock, and the clock is passed in. A text is *unsent* until Redis is known to hold
it (*owed*, once a call has failed to send it), *in flight* while somebody sends it, for the length
of a lease, so that an interrupted sender blocks nobody for good, and *held* once Redis confirmed
it. It is *uncertain* while an attempt at another text of the order, given up before, may arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from copy import copy
from itertools import islice

from .entry import Entry, Flight, Late, Ticket, Verdict, digest_of
from .errors import UpstashError

# Seconds after which an attempt that was given up has arrived or is lost: what stands in between
# drops a request whose client has gone by then (AWS ALB and nginx: 60 s).
LATE = 60.0
# How much of an outage a process keeps.
MOST_BYTES = 64_000_000
# What the network takes off an expiry, in seconds.
SLACK = 1.0


NOTHING_LATE = Late()


class Ledger:
    """The texts of one database and prefix.

    Args:
        clock: The time of day in seconds, which goes on while a process is frozen.
        most_bytes: How many bytes of texts to keep; the oldest are dropped first.
    """

    def __init__(self, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self._clock, self._most_bytes = clock, most_bytes
        self._bytes = self._version = 0
        # Unsent, or held and uncertain; in the order in which they were first given.
        self._entries: dict[str, Entry] = {}
        # Digest, since when, for how long; in the order of saving, so that the oldest come first.
        self._held: dict[str, tuple[bytes, float, float]] = {}
        self._late: dict[str, Late] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is unsent and nothing uncertain."""
        return not self._entries

    def unsent(self) -> list[Entry]:
        """The orders whose newest text Redis is not known to hold."""
        return [entry for entry in list(self._entries.values()) if entry.unsent]

    def newest(self, key: str) -> Entry | None:
        """What is unsent under a key."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.unsent else None

    def uncertain(self, key: str) -> bool:
        """Whether an attempt that was given up may still arrive."""
        return key in self._late

    def give(self, key: str, text: str | None, ttl: float, *, remember: bool = False) -> Ticket:
        """Note the newest text of a key; what was given before is not sent any more.

        Args:
            key: The key.
            text: The text, None for a delete.
            ttl: Seconds until it expires.
            remember: Whether `holds` will ask for it.
        """
        held = self._held.pop(key, None)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        if held is not None:
            # By the time that a look takes, its expiry may seem to be later.
            entry.sent.add(held[0])
        self._version += 1
        entry.version, entry.remember = self._version, remember
        entry.text, entry.digest = text, digest_of(text)
        entry.given_at, entry.ttl = self._clock(), ttl
        self._bytes -= entry.size
        entry.size = 0 if text is None else len(text.encode())
        self._bytes += entry.size
        return Ticket(entry, entry.version)

    def trim(self) -> list[str]:
        """Drop the oldest texts beyond the bound, and give the keys of the unsent ones."""
        dropped = []
        for entry in list(self._entries.values()) if self._bytes > self._most_bytes else ():
            if self._bytes > self._most_bytes and self.sender(entry) is None:
                dropped += [entry.key] if entry.unsent else []
                self._drop(entry)
        return dropped

    def holds(self, key: str, text: str, seconds: float) -> bool:
        """Whether Redis was given just this less than so many seconds ago, and still has it."""
        digest, since, lasts = self._held.get(key, (None, 0.0, 0.0))
        # Negative when the clock was set back: then nothing is known.
        age = self._clock() - since
        return digest is not None and 0 <= age < min(seconds, lasts) and digest == digest_of(text)

    def found(self, key: str, text: str | None) -> None:
        """A read found this under a key: anything else is not held any more."""
        if key in self._held and self._held[key][0] != digest_of(text):
            del self._held[key]

    def counted(self, keys: Collection[str], began: float) -> None:
        """A walk that began then found just these keys: no others are held any more."""
        for key, (_, since, _) in list(self._held.items()):
            if since < began and key not in keys:
                del self._held[key]

    def take(self, keys: Iterable[str] | None, owner: object, lease: float) -> list[Flight]:
        """What is to be sent now, in flight from now on.

        Args:
            keys: Of which keys; None for all that is unsent, and what was uncertain for a minute.
            owner: Who sends it.
            lease: Seconds after which somebody else may send it.
        """
        now = self._clock()
        flights = []
        for key in list(self._entries) if keys is None else keys:
            entry = self._entries.get(key)
            if entry is None or self.sender(entry) is not None:
                continue
            if entry.unsent or (keys is None and self._all_arrived(key, now)):
                flight = entry.flight = Flight(entry, owner)
                # Unless a signal handler that saves has sent it in between.
                if self.renew(flight, lease):
                    flights.append(flight)
        return flights

    def renew(self, flight: Flight, lease: float) -> bool:
        """Go on for so many seconds. False if there is a newer text, or another sender."""
        entry = flight.entry
        if entry.flight is flight and entry.version != flight.version:
            entry.flight = None
        flight.began = self._clock()
        flight.until = flight.began + lease
        entry.sent.add(flight.digest)
        return entry.flight is flight

    def sender(self, entry: Entry) -> Flight | None:
        """Who sends this order at the moment."""
        flight = entry.flight
        return flight if flight and flight.began <= self._clock() < flight.until else None

    def judge(self, flight: Flight, stored: str | None, expires_in: float) -> Verdict:
        """What to do with a text after a look at its key.

        Every save sets the expiry anew. So what expires later was saved later, by another writer
        unless it is a text whose attempt this process gave up.

        Args:
            flight: The text.
            stored: What the key holds, None if there is no such key.
            expires_in: Seconds until the key expires, infinite if it never does.
        """
        entry, digest, now = flight.entry, digest_of(stored), self._clock()
        if digest == flight.digest:
            lasts = stored is None or now + expires_in + SLACK >= entry.expires_at
            return Verdict.HELD if lasts else Verdict.SEND
        late = self._late.get(entry.key, NOTHING_LATE)
        ours = stored is None or digest in late.digests or digest in entry.sent
        if (not ours and now + expires_in > entry.expires_at) or now >= entry.expires_at:
            return Verdict.DROP
        entry.held_version = 0
        return Verdict.SEND

    def landed(self, flight: Flight, *, late: bool = False) -> None:
        """Redis holds the text. `late`: an attempt at it was given up before the last one."""
        entry = self._land(flight, late)
        entry.held_version = max(entry.held_version, flight.version)
        if flight.version != entry.version:
            return
        if self._all_arrived(entry.key, flight.began):
            self._late.pop(entry.key, None)
        # The same text, arriving late, does no harm.
        if self._late.get(entry.key, NOTHING_LATE).digests <= {entry.digest}:
            self._drop(entry)
            if entry.text is not None:
                # After half of the TTL it is sent again, or an order that never changes would
                # expire unnoticed.
                lasts = entry.ttl / 2 if entry.remember else min(LATE, entry.ttl / 2)
                self._remember(entry.key, entry.digest, flight.began, lasts)

    def superseded(self, flight: Flight) -> None:
        """Another writer saved after the text was given, so it is dropped."""
        entry = self._land(flight, late=False)
        if flight.version == entry.version:
            entry.held_version = entry.version
            self._drop(entry)

    def failed(self, flight: Flight, error: UpstashError, *, owed: bool, late: bool) -> None:
        """The text was not sent. `owed`: to be kept. `late`: an attempt may still arrive."""
        entry = self._land(flight, late)
        flight.error = error
        if flight.version == entry.version:
            # A copy has no traceback, whose frames hold what was sent.
            entry.failed_version, entry.error = entry.version, copy(error)
            if not owed:
                self._drop(entry)

    def _land(self, flight: Flight, late: bool) -> Entry:
        entry, now = flight.entry, self._clock()
        if entry.flight is flight:
            entry.flight = None
        if late:
            attempts = self._late.setdefault(entry.key, Late())
            attempts.at = now
            attempts.digests.add(flight.digest)
        for key in list(islice(self._late, 2)):
            if key not in self._entries and self._all_arrived(key, now):
                del self._late[key]
        return entry

    def _all_arrived(self, key: str, now: float) -> bool:
        late = self._late.get(key)
        return late is None or not 0 <= now - late.at < LATE

    def _drop(self, entry: Entry) -> None:
        if self._entries.get(entry.key) is entry:
            self._entries.pop(entry.key, None)
            self._bytes -= entry.size
            entry.size = 0

    def _remember(self, key: str, digest: bytes, since: float, lasts: float) -> None:
        self._held.pop(key, None)
        self._held[key] = (digest, since, lasts)
        now = self._clock()
        for oldest in list(islice(self._held, 2)):
            _, saved, lasted = self._held[oldest]
            if now - saved >= lasted:
                del self._held[oldest]
