"""What a package and all that it needs add to a function's bundle.

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
from collections.abc import Iterator
from pathlib import Path

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


def size(folder: Path, requirement: str) -> tuple[int, int, int, list[str]]:
    """Bytes unpacked, zipped, and of the package itself; the packages, each with its version."""
    pip("install", "--no-compile", "--target", str(folder), requirement)
    # Commands have no use in a function, and name this machine.
    shutil.rmtree(folder / "bin", ignore_errors=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in files:
            target.write(path, path.relative_to(folder))
    own = folder / folder.name.replace("-", "_")
    return (
        _bytes(files),
        archive.stat().st_size,
        _bytes([path for path in files if own in path.parents]),
        sorted(_packages(folder)),
    )


def _bytes(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _packages(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.dist-info"):
        name, _, version = path.name.removesuffix(".dist-info").partition("-")
        yield f"{name} {version}"


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, {platform.machine()}")
    print(f"{'MB':16}{'in all':>8}{'zipped':>8}{'itself':>8}")
    with tempfile.TemporaryDirectory() as work:
        for name in ("upstash-state", "upstash-redis", "redis"):
            requirement = str(wheel(Path(work))) if name == "upstash-state" else name
            *sizes, packages = size(Path(work, name), requirement)
            columns = "".join(f"{size / MEGABYTE:8.2f}" for size in sizes)
            print(f"{name:16}{columns}   {', '.join(packages)}")


if __name__ == "__main__":
    main()
