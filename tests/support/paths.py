"""Where the files of this checkout are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DATA = ROOT / "tests" / "data"
#: Orders as the TCP module stored them, and as it gave them back.
STORED_ORDERS = DATA / "stored-orders.jsonl"
