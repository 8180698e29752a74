"""What a fault is, and what a client has to make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection


class Kind(Enum):
    """What a client has to make of a fault."""

    HARMLESS = "nothing is wrong: the right value, and not a word above INFO"
    PASSING = "a retry cures it; if it stays, the fall-back value"
    REFUSAL = "the fall-back value at once, since asking again would not help"
    BROKEN = "the fall-back value if it stays; whether to retry is the client's choice"
    SILENT = "no end of the answer ever comes: the time budget ends the call"


class Stage(Enum):
    """When a fault strikes."""

    LISTENING = "nobody listens, until the plan is cleared"
    ACCEPTING = "on a new connection, before TLS"
    ANSWERING = "on a request, which the fault may leave unread"


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, with what a test needs to know about it.

    Attributes:
        name: What it is called in a test's id.
        act: Does it.
        kind: What the client has to make of it.
        cause: A regular expression that finds the cause in the client's log line.
        stage: When it strikes.
        fits: Whether it can strike here. Where it cannot, the answer is the right one.
        plain: Whether it is worth a test over plain TCP.
        tls: Whether it is worth a test over TLS.
    """

    name: str
    act: Callable[[Connection], None]
    kind: Kind
    cause: str
    stage: Stage
    fits: Callable[[Connection], bool]
    plain: bool
    tls: bool

    def __repr__(self) -> str:
        return self.name


def always(connection: Connection) -> bool:
    return True


class Catalogue(list[Fault]):
    """Faults that are functions, each entered under its name."""

    def enter(
        self,
        kind: Kind,
        cause: str = "",
        *,
        stage: Stage = Stage.ANSWERING,
        fits: Callable[[Connection], bool] = always,
        plain: bool = True,
        tls: bool = False,
    ) -> Callable[[Callable[[Connection], None]], Fault]:
        def add(act: Callable[[Connection], None]) -> Fault:
            fault = Fault(act.__name__, act, kind, cause, stage, fits, plain, tls)
            self.append(fault)
            return fault

        return add
