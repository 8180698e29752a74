"""The Flask example under gunicorn with --preload and two workers, as on Render."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.support.processes import Process
from upstash_state.local import LocalEndpoint

from .shop import (
    EXAMPLES,
    assert_no_failure,
    credentials,
    expected,
    order,
    order_id,
    put_into,
    request,
    start_command,
    stored,
)

pytest.importorskip("flask", reason="flask is not installed: requirements.txt here")
pytest.importorskip("gunicorn", reason="gunicorn is not installed: requirements.txt here")


def web_service(endpoint: LocalEndpoint) -> Process:
    """Start the app. Each request is logged with the worker that answered it."""
    command = start_command("render/app.py", "gunicorn")
    assert {"--preload", "--workers", "2"} <= set(command)
    logging = ["--access-logfile", "-", "--access-logformat", "answered by worker %(p)s"]
    return Process(
        ["-m", "gunicorn", *command, "--bind", "127.0.0.1:0", *logging],
        EXAMPLES / "render",
        credentials(endpoint),
    )


def listening(process: Process) -> int:
    """The port that it has told, once both workers run."""
    port = int(process.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
    process.wait_for("Booting worker")
    return port


def workers(process: Process) -> set[str]:
    """The workers that have answered."""
    return set(re.findall(r"answered by worker <(\d+)>", process.output))


def test_two_workers_save_what_comes_at_once_and_each_knows_what_the_other_saved(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    put_into(tcp, 0)
    with web_service(real_endpoint) as process, ThreadPoolExecutor(8) as shop:
        port = listening(process)

        def post_and_get(number: int) -> list[int]:
            posted = request(port, "POST", "/orders", order(number))
            status, shown = request(port, "GET", f"/orders/{order_id(number)}")
            assert shown.pop("received_at")
            assert shown == order(number)
            return [posted[0], status]

        assert list(shop.map(post_and_get, range(200))) == [[200, 200]] * 200
        assert stored(tcp) == expected(*range(200))
    assert len(workers(process)) == 2
    assert_no_failure(process.output, real_endpoint)


def test_both_workers_have_what_was_restored_before_they_were_forked(
    real_endpoint: LocalEndpoint, tcp: redis.Redis
) -> None:
    put_into(tcp, 1)
    with web_service(real_endpoint) as process, ThreadPoolExecutor(8) as shop:
        port = listening(process)
        real_endpoint.close()

        def get(_: int) -> tuple[int, object]:
            return request(port, "GET", f"/orders/{order_id(1)}")

        # The breaker opens after three failures, so that most of these are answered at once.
        assert list(shop.map(get, range(60))) == [(200, order(1))] * 60
    assert len(workers(process)) == 2
    assert real_endpoint.usage().requests == 2, "SCAN, MGET: not once a worker"
