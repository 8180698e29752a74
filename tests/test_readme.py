"""What the READMEs show is run as it stands, and what they link to is there."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.support.cli import environment
from tests.support.paths import README, ROOT
from tests.support.readme import Reader, blocks
from upstash_state import deserialize_order, serialize_order
from upstash_state.local import LocalEndpoint

READMES = [
    README,
    *sorted(path for top in ("upstash_state", "tests") for path in (ROOT / top).rglob("README.md")),
]
# Of apps, and of other packages.
ELSEWHERE = {"redis_state.py", "conftest.py", "test_app.py"}
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


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    folders = [ROOT, ROOT / "upstash_state", ROOT / "tests", (ROOT / name).parent]
    for file in re.findall(r"`((?:\w+/)*\w+\.py)`", (ROOT / name).read_text(encoding="utf-8")):
        if file not in ELSEWHERE:
            assert any((folder / file).is_file() for folder in folders), file


def test_each_readme_can_be_reached_from_the_first() -> None:
    linked = re.findall(r"\]\(([^)]+README\.md)\)", README.read_text(encoding="utf-8"))
    assert {README.relative_to(ROOT).as_posix(), *linked} == set(NAMES)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 250


ROW = re.compile(r"^\| `(.*?)` \| (?:`(.*?)`|refused) \| (?:`(.*?)`|equal.*?)? ?\|$", re.M)
TYPES = (date, datetime, timezone, Decimal, Enum, IntEnum, UUID, ZoneInfo)


def test_the_table_of_what_is_stored() -> None:
    section = README.read_text(encoding="utf-8").split("\n## What is stored\n")[1].split("\n## ")[0]
    rows = ROW.findall(section)
    assert len(rows) == section.count("\n| ") - 2
    names = {known.__name__: known for known in TYPES}
    for expression, stored, different in rows:
        value = eval(expression, names)
        if not stored:
            with pytest.raises(TypeError):
                serialize_order({"value": value})
            continue
        text = serialize_order({"value": value})
        back = deserialize_order(text)["value"]
        expected = eval(different, names) if different else value
        assert text == f'{{"value": {stored}}}'
        assert (back, type(back)) == (expected, type(expected)), expression
