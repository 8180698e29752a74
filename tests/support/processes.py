"""A server or runner in a process of its own, and what it has written so far."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import upstash_state

# Longer than anything here takes, so that a mistake ends a test and not the run.
LIMIT = 60.0


class Process:
    """A running command, in a process group of its own, with its output read all the time.

    Args:
        command: Arguments for the Python, such as `["-m", "gunicorn"]`.
        folder: Where it runs.
        environment: All its variables, but for what a Python here needs to find its modules.
        python: The interpreter.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        python: str = sys.executable,
    ) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [python, *command],
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
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait for so many lines that match a regular expression, and return the first match."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.search(pattern, line))]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= times or self._ended, LIMIT)
            matches = found()
        assert len(matches) >= times, f"no {times} lines like {pattern!r} in:\n{self.output}"
        return matches[0]

    def terminate(self) -> None:
        """Send SIGTERM to it, not to its children, and wait until all of them have ended."""
        self._process.terminate()
        with self._news:
            # Its children have the other end of the pipe, too.
            assert self._news.wait_for(lambda: self._ended, LIMIT), f"goes on:\n{self.output}"
        self._process.wait(LIMIT)

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
