"""not installed, HTTPS_PROXY=socks5h://…: the log names PySocks and HTTPS_PROXY"""

import logging
import os
import sys

import probes  # noqa: F401

sys.modules["socks"] = None  # type: ignore[assignment]
os.environ["UPSTASH_REDIS_REST_URL"] = os.environ["URL_BEHIND_SOCKS"]
os.environ["HTTPS_PROXY"] = os.environ["SOCKS_PROXY_URL"]

from upstash_state import redis_save_order

lines: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
logging.getLogger("upstash_state").addHandler(handler)
assert not redis_save_order("5866", {})
assert any("PySocks" in line and "HTTPS_PROXY" in line for line in lines), lines
