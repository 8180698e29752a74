"""The README shows the examples as they are tested here."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import README

from .process import EXAMPLES

# A comment that names the file, then the file.
SHOWN = re.compile(r"<!-- tests/serverless/([\w/.]+) -->\n+```\w*\n(.*?)```\n", re.DOTALL)
FILES = (
    "aws_lambda/lambda_function.py",
    "cloud_run/main.py",
    "render/app.py",
    "vercel/api/index.py",
    "vercel/vercel.json",
)


@pytest.mark.parametrize("name", FILES)
def test_the_readme_shows_the_example_that_is_tested(name: str) -> None:
    shown = dict(SHOWN.findall(README.read_text()))
    assert shown[name] == (EXAMPLES / name).read_text()
