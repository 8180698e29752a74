"""A network for the tests alone: a host that lets one TCP port out, and what is outside of it.

Linux only, and for root. A packet to any other port is dropped, so that who sends it hears nothing.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .authority import OUTSIDE

INSIDE = "10.77.0.2"
CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace that lasts as long as a process that does nothing in it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            _, complaint = self._holder.communicate()
            raise OSError(complaint.decode())

    @property
    def pid(self) -> int:
        return self._holder.pid

    def close(self) -> None:
        self._holder.communicate()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it with this thread, and with the processes and threads that it starts."""
        with (
            Path(f"/proc/{self.pid}/ns/net").open() as there,
            Path("/proc/thread-self/ns/net").open() as here,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())


class Network:
    """Two hosts and a wire: `inside`, where the app is, and `outside`, at the address OUTSIDE.

    Args:
        port: The one port of the outside that can be reached from inside.

    Raises:
        OSError: This machine, or this user, cannot have namespaces.
    """

    def __init__(self, port: int) -> None:
        with ExitStack() as stack:
            self.inside = Namespace()
            stack.callback(self.inside.close)
            self.outside = Namespace()
            stack.callback(self.outside.close)
            with self.outside.entered():
                _ip("link set lo up")
                _ip(f"link add wire type veth peer name wire netns {self.inside.pid}")
                _ip(f"address add {OUTSIDE}/24 dev wire")
                _ip("link set wire up")
                # Before the rule that has packets for this host delivered, which moves to the end.
                _ip(f"rule add pref 1 iif wire ipproto tcp dport {port} lookup local")
                _ip("rule add pref 2 iif wire ipproto tcp blackhole")
                _ip("rule add pref 2 iif wire ipproto udp blackhole")
                _ip("rule add pref 3 lookup local")
                _ip("rule delete pref 0")
            with self.inside.entered():
                _ip("link set lo up")
                _ip(f"address add {INSIDE}/24 dev wire")
                _ip("link set wire up")
            self._ends = stack.pop_all()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ends.close()


def _enter(namespace: int) -> None:
    # os.setns came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _ip(command: str) -> None:
    run = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    if run.returncode:
        raise OSError(f"ip {command}: {run.stderr}")
