"""the README's Flask app, `gunicorn -k gevent`, with --preload and without: 20 posts are saved"""

import json
import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

APP = Path(__file__).parents[2] / "serverless" / "render"


def post(port: str, number: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/orders",
        json.dumps({"id": number}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bool(json.load(answer)["saved"])


for preload in [], ["--preload"]:
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--bind", "127.0.0.1:0"]
    server = subprocess.Popen(
        [*command, *preload, "app:app"],
        cwd=APP,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr
        port = ""
        for line in server.stderr:
            print(line, end="", file=sys.stderr)
            found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
            port = found[1] if found else port
            if "Booting worker" in line:
                break
        with ThreadPoolExecutor(10) as pool:
            saved = list(pool.map(post, [port] * 20, range(20)))
        assert all(saved), f"{preload}: {saved.count(True)} of 20 saved"
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        print(server.stderr.read(), file=sys.stderr)
