"""What the READMEs show is run as it stands, and what they link to is there."""

from __future__ import annotations

import asyncio
import re
import runpy
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.support.cli import environment
from tests.support.environ import Environ
from tests.support.paths import README, ROOT
from tests.support.readme import Reader, blocks
from upstash_state import deserialize_order, reset_client, serialize_order
from upstash_state.local import LocalEndpoint

DOCS = ROOT / "upstash_state" / "docs"
READMES = [
    README,
    *sorted(path for top in ("upstash_state", "tests") for path in (ROOT / top).rglob("README.md")),
    *sorted(DOCS.glob("*.md")),
]
# Of apps, and of other packages.
ELSEWHERE = {"redis_state.py", "conftest.py", "test_app.py"}
NAMES = [path.relative_to(ROOT).as_posix() for path in READMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_block_runs(name: str, endpoint: LocalEndpoint, tmp_path: Path) -> None:
    with Reader(tmp_path, environment(endpoint.url, endpoint.token)) as reader:
        # The apps of the first README, which others test.
        apps = [block for block in blocks(README) if re.match(r"# \w+_app\.py\n", block.text)]
        for block in [*apps, *blocks(ROOT / name)]:
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
    linked = re.findall(
        r"\]\(((?:upstash_state|tests)/[^)]+\.md)\)", README.read_text(encoding="utf-8")
    )
    assert {README.relative_to(ROOT).as_posix(), *linked} == set(NAMES)


def app(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a file of the README, and return what it defines."""
    (code,) = [b.text for b in blocks(README) if b.text.startswith(f"# {name}.py\n")]
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    reset_client()
    return runpy.run_path(str(folder / f"{name}.py"), run_name=name)


@pytest.fixture
def connected(endpoint: LocalEndpoint, environ: Environ) -> None:
    environ.use(endpoint.url, endpoint.token)


@pytest.mark.usefixtures("connected")
def test_the_flask_app_saves_and_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = {"status": "new"}
    client = app("flask_app", tmp_path, monkeypatch)["app"].test_client()
    assert client.post("/orders/5866", json=order).get_json() == {"saved": True}
    assert app("flask_app", tmp_path, monkeypatch)["STATE"] == {"5866": order}


@pytest.mark.usefixtures("connected")
def test_the_fastapi_app_saves_and_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"status": "new"}
    fastapi = app("fastapi_app", tmp_path, monkeypatch)["app"]

    async def visit() -> Any:
        transport = httpx.ASGITransport(fastapi)
        async with (
            fastapi.router.lifespan_context(fastapi),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            return (await client.post("/orders/5866", json=order)).json()

    assert asyncio.run(visit()) == {"saved": True}
    assert app("fastapi_app", tmp_path, monkeypatch)["STATE"] == {"5866": order}


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


ROW = re.compile(r"^\| `(.*?)` \| (?:`(.*?)`|refused) \| (?:`(.*?)`|equal.*?)? ?\|$", re.M)
TYPES = (date, datetime, timezone, Decimal, Enum, IntEnum, UUID, ZoneInfo)


def test_the_table_of_what_is_stored() -> None:
    section = (DOCS / "storage.md").read_text(encoding="utf-8")
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
