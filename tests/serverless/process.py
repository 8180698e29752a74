"""A platform's runtime in a process of its own, and what the process has said so far."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import upstash_state

EXAMPLES = Path(__file__).parent
# Longer than anything here takes, so that a mistake ends a test and not the run.
LIMIT = 30.0


class Process:
    """A running command, in a process group of its own, with its output read all the time.

    Args:
        command: Arguments for this Python, as `["-m", "gunicorn"]`.
        folder: Where it runs.
        environment: All its variables, but for what a Python here needs to find its modules.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(Path(upstash_state.__file__).parents[1]),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line that matches a regular expression, waited for."""

        def found() -> re.Match[str] | None:
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, LIMIT)
            match = found()
        assert match, f"no line like {pattern!r} in:\n{self.output}"
        return match

    @property
    def output(self) -> str:
        """All that it has written."""
        return "\n".join(self.lines)

    def freeze(self) -> None:
        """Stop it, as platforms do between two events. Returns when it stands still."""
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
