"""The size that a package and its dependencies add to a function's bundle.

    python -m tests.benchmarks.size

Installs each into an empty folder with pip, without bytecode, as for an upload. pip fetches the
packages from the index that it is set up for.
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
    """Run pip, which says nothing unless something is wrong."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    subprocess.run(command, check=True)


def wheel(folder: Path) -> Path:
    """Build this package from a copy, since a build leaves files beside what it builds."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "upstash_state", source / "upstash_state")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    return next(folder.glob("*.whl"))


def size(folder: Path, requirement: str) -> list[str]:
    """The package with its version; megabytes unpacked, zipped, and of the package itself."""
    pip("install", "--no-compile", "--target", str(folder), requirement)
    # Commands have no use in a function, and name this machine.
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
    """Measure and print."""
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
