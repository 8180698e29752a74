"""What the READMEs show is run as it stands, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cli import environment
from tests.support.paths import README, ROOT
from tests.support.readme import Reader, blocks
from upstash_state.local import LocalEndpoint

READMES = [
    README,
    *sorted(path for top in ("upstash_state", "tests") for path in (ROOT / top).rglob("README.md")),
]
NAMES = [path.relative_to(ROOT).as_posix() for path in READMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_block_runs(name: str, endpoint: LocalEndpoint, tmp_path: Path) -> None:
    with Reader(tmp_path, environment(endpoint.url, endpoint.token)) as reader:
        for block in blocks(ROOT / name):
            try:
                reader.follow(block)
            except AssertionError as error:
                pytest.fail(f"{name}:{block.line}: {error}")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https://)([^)#]+)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_extras_that_are_installed_exist(name: str) -> None:
    named = re.findall(r"'\.\[([\w,-]+)\]'", (ROOT / name).read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = re.findall(r"^([\w-]+) = ", section, re.MULTILINE)
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


def test_each_readme_can_be_reached_from_the_first() -> None:
    linked = re.findall(r"\]\(([^)]+README\.md)\)", README.read_text(encoding="utf-8"))
    assert {README.relative_to(ROOT).as_posix(), *linked} == set(NAMES)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 250
