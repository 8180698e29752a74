"""The size that a package and its dependencies add to a function's bundle.

    python -m tests.benchmarks.size

It installs each package into an empty folder with pip, without bytecode, as for an upload. pip
uses the index of its own settings.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.benchmarks.report import table
from tests.support.paths import ROOT

MEGABYTE = 1_000_000


def pip(*arguments: str) -> None:
    """Run pip, which prints errors only."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True)


def wheel(folder: Path) -> Path:
    """Build this package from a copy, because a build leaves files in its folder."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "upstash_state", source / "upstash_state")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    return next(folder.glob("*.whl"))


def size(folder: Path, requirement: str) -> list[str]:
    """Return the package with its version, and its megabytes: unpacked, zipped, without others."""
    pip("install", "--no-compile", "--target", str(folder), requirement)
    # A function does not use commands, and they contain the path of this Python.
    shutil.rmtree(folder / "bin", ignore_errors=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in files:
            target.write(path, path.relative_to(folder))
    own = folder / folder.name.replace("-", "_")
    (information,) = folder.glob(f"{own.name}-*.dist-info")
    version = information.stem.partition("-")[2]
    itself = [path for path in files if own in path.parents]
    sizes = _bytes(files), archive.stat().st_size, _bytes(itself)
    return [f"{folder.name} {version}", *(f"{size / MEGABYTE:.2f}" for size in sizes)]


def _bytes(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def main() -> None:
    """Print the table."""
    print(f"Python {platform.python_version()}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as work:
        requirements = {"upstash-state": str(wheel(Path(work)))}
        rows = [
            size(Path(work, name), requirements.get(name, name))
            for name in ("upstash-state", "upstash-redis", "redis")
        ]
    print(table(["MB", "unpacked", "zipped", "the package itself"], rows))


if __name__ == "__main__":
    main()
