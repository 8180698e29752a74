"""A single command through a transport, without a client."""

from __future__ import annotations

from typing import TypeVar, cast

from upstash_state.commands import Command
from upstash_state.transport import COMMAND, Transport

T = TypeVar("T")


def run(transport: Transport, command: Command[T]) -> T:
    """Send one command and return its result."""
    return cast(T, transport.exchange([command], path=COMMAND).results[0])
