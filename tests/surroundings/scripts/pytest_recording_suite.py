"""a suite of its own: recorded over https with --record-mode=once, replayed with --block-network"""

import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = """
import pytest
from upstash_state import redis_get_all_orders, redis_save_order

@pytest.fixture(scope="module")
def vcr_config():
    return {"filter_headers": ["authorization"]}

@pytest.mark.vcr
def test_an_order_is_saved():
    assert redis_save_order("recorded", {"name": "#26"})

@pytest.mark.vcr
def test_orders_are_restored():
    assert redis_get_all_orders()["recorded"] == {"name": "#26"}
"""

folder = Path(tempfile.mkdtemp())
(folder / "test_shop.py").write_text(SUITE)
for options in (
    ["--record-mode=once"],
    ["--block-network"],
    ["--block-network", "-p", "no:randomly"],
):
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        check=True,
        stdout=sys.stderr,
        timeout=50,
    )
    assert len(list(folder.rglob("*.yaml"))) == 2, "not recorded"
