"""A README followed to the letter: its blocks are run one after the other, as a reader would.

A `python` block whose first line is a file name (`# test_shop.py`) is written to that file; any
other is run. An `sh` block is run in a terminal, and if a block without language follows it
directly, that is what it has to show, but for numbers and tokens. `pip` does nothing. A comment
before a block changes that:

    <!-- run by .ci/run -->       not here
    <!-- in another terminal -->  left running until the end; what it prints as `export` is exported
    <!-- fails -->                ends with another status than 0
    <!-- typed: y -->             is answered with this once it asks
    <!-- path/of/a/file -->       shows that file of the checkout, or a part of a file that the
                                  blocks above have made
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from .cli import SECONDS, Terminal
from .paths import ROOT

ELSEWHERE = "run by .ci/run"
BESIDE = "in another terminal"
FAILS = "fails"
TYPED = "typed: "
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n+)?^```(\w*)\n(.*?)^```$(\n*)", re.S | re.M)
# Neither an index nor a checkout is at hand. The package itself comes from the checkout alone.
_PIP = """#!/bin/sh
for argument; do
    case "$argument" in upstash*) echo "$argument is on no index" >&2; exit 1;; esac
done
"""


# A reader does not have these plugins. They take longer to start than pytest itself.
_OTHER_PLUGINS = "-p no:hypothesispytest -p no:anyio -p no:xdist"


class Block(NamedTuple):
    """One block of a README, and the line that it begins on."""

    comment: str
    language: str
    text: str
    line: int
    output: str | None = None


def blocks(readme: Path) -> list[Block]:
    """The blocks of a README, each with the output that is shown directly after it."""
    text = readme.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        comment, language, code, _ = match.groups()
        if not language and found and found[-1].language == "sh" and match.start() == end:
            found[-1] = found[-1]._replace(output=code)
        else:
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(comment or "", language, code, line))
        end = match.end()
    return found


class Reader:
    """Somebody who does what a README says, in a directory of their own."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        tools = directory / ".tools"
        tools.mkdir()
        (tools / "pip").write_text(_PIP)
        (tools / "pip").chmod(0o755)
        path = [str(tools), str(Path(sys.executable).parent), environ["PATH"]]
        # A reader has the defaults.
        environ = {name: v for name, v in environ.items() if name != "UPSTASH_STATE_TIMEOUT"}
        self._environ = {
            **environ,
            "PATH": os.pathsep.join(path),
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": _OTHER_PLUGINS,
        }
        self._directory = directory
        self._beside: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._beside:
            process.terminate()
            process.communicate(timeout=SECONDS)

    def follow(self, block: Block) -> None:
        """Do what one block says."""
        name = re.match(r"# (\w+\.py)\n", block.text)
        if block.comment == ELSEWHERE:
            return
        if block.comment == BESIDE:
            self._leave_running(block)
        elif block.comment and block.language != "sh":
            self._compare(block)
        elif block.language == "python" and name:
            (self._directory / name[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.text],
                cwd=self._directory,
                env=self._environ,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                timeout=SECONDS,
            )
            assert done.returncode == 0, done.stderr
            assert "Failed" not in done.stderr
        elif block.language == "sh":
            command = ["sh", "-e", "-c", block.text]
            with Terminal(self._environ, command=command, directory=self._directory) as terminal:
                if block.comment.startswith(TYPED):
                    terminal.expect(r"\[y/N\] ")
                    terminal.type(block.comment.removeprefix(TYPED) + "\n")
                status = terminal.end()
            assert (status != 0) == (block.comment == FAILS), terminal.text
            if block.output is not None:
                assert _shape(terminal.shown) == _shape(block.output)

    def _leave_running(self, block: Block) -> None:
        # On a free port, since others may use the usual one.
        process = subprocess.Popen(
            ["sh", "-c", f"exec {block.text.strip()} --port 0"],
            cwd=self._directory,
            env={**self._environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._beside.append(process)
        assert process.stdout is not None
        assert block.output is not None
        for expected in block.output.splitlines():
            line = process.stdout.readline()
            assert _shape(line) == _shape(expected), line
            if line.startswith("export "):
                variable, _, value = line.removeprefix("export ").strip().partition("=")
                self._environ[variable] = value

    def _compare(self, block: Block) -> None:
        in_checkout = ROOT / block.comment
        if in_checkout.is_file():
            assert block.text == in_checkout.read_text(encoding="utf-8")
        else:
            assert block.text in (self._directory / block.comment).read_text(encoding="utf-8")


def _shape(text: str) -> list[str]:
    text = re.sub(r"[\w-]{40,}", "a token", text.strip())
    text = re.sub(r"\d+ d( \d+ h)?", "0 d", text)
    text = re.sub(r"https?://[\w.:-]+", "a URL", text)
    return [" ".join(line.split()) for line in re.sub(r"\d[\d,.]*", "0", text).splitlines()]
