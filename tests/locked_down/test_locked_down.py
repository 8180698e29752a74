"""Hosts that let only HTTPS out, only a proxy, or nothing be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import upstash_state
from tests.support.servers import REDIS_BINARY, WITHOUT_REDIS, redis_server
from upstash_state.local import LocalEndpoint

from .authority import NAME, OUTSIDE, URL, Authority
from .network import Network
from .proxy import Proxy

CREDENTIALS = "shop:proxy-password-5866"
# Over which the file systems that are mounted below it stay as they are.
READ_ONLY = """
for folder in / /tmp /var/tmp /dev/shm; do
    mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder" || exit 99
done
exec "$@"
"""
WORKS = {
    "save": True,
    "get": True,
    "get_all": True,
    "count": 2,
    "delete": True,
    "threads": ["MainThread"],
    "can_write": True,
    "probes": {},
}


class Told(dict[str, Any]):
    """What the app said, and in `log` what it wrote besides."""

    log = ""


def run_app(url: str, token: str, *before: str, **environment: str) -> Told:
    """Run the app, with nothing of the environment here but what it needs to be found."""
    run = subprocess.run(
        [*before, sys.executable, str(Path(__file__).with_name("app.py"))],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(upstash_state.__file__).parents[1]),
            "UPSTASH_REDIS_REST_URL": url,
            "UPSTASH_REDIS_REST_TOKEN": token,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert token not in run.stdout + run.stderr
    told = Told(json.loads(run.stdout.splitlines()[-1]))
    told.log = run.stderr
    return told


def port_of(endpoint: LocalEndpoint) -> str:
    return endpoint.url.rpartition(":")[2]


@contextmanager
def network(port: int) -> Iterator[Network]:
    try:
        made = Network(port)
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    with made:
        yield made


def test_only_https_gets_out_and_redis_port_is_dead(authority: Authority) -> None:
    if REDIS_BINARY is None:
        pytest.skip(WITHOUT_REDIS)
    open_to_all = ("--bind", "0.0.0.0", "--port", "6379", "--protected-mode", "no")
    with (
        network(443) as hosts,
        hosts.outside.entered(),
        redis_server(*open_to_all),
        LocalEndpoint(
            host=OUTSIDE, port=443, redis_url="redis://127.0.0.1", tls=authority.as_server
        ) as endpoint,
        redis.Redis() as tcp,
    ):
        with hosts.inside.entered():
            told = run_app(
                f"https://{OUTSIDE}",
                endpoint.token,
                REQUESTS_CA_BUNDLE=str(authority.bundle),
                PROBES=f"{OUTSIDE}:443 {OUTSIDE}:6379",
            )
        probes = {f"{OUTSIDE}:443": "connected", f"{OUTSIDE}:6379": "TimeoutError"}
        assert told == {**WORKS, "probes": probes}
        assert tcp.keys() == [b"order:1"]
        assert 604_700 < tcp.ttl("order:1") <= 604_800


def test_only_a_proxy_can_be_reached(authority: Authority) -> None:
    with (
        network(3128) as hosts,
        hosts.outside.entered(),
        LocalEndpoint(host=OUTSIDE, port=443, tls=authority.as_server) as endpoint,
        LocalEndpoint(tls=authority.as_server, token=endpoint.token) as known_to_proxy,
        Proxy(
            {f"{NAME}:443": int(port_of(known_to_proxy))},
            host=OUTSIDE,
            port=3128,
            credentials=CREDENTIALS,
        ) as proxy,
        hosts.inside.entered(),
    ):
        variables = {
            "REQUESTS_CA_BUNDLE": str(authority.bundle),
            "HTTPS_PROXY": f"http://{CREDENTIALS}@{OUTSIDE}:3128",
        }
        told = run_app(URL, endpoint.token, **variables, PROBES=f"{OUTSIDE}:443")
        assert told == {**WORKS, "probes": {f"{OUTSIDE}:443": "TimeoutError"}}
        assert proxy.asked == [f"{NAME}:443"]
        assert CREDENTIALS.partition(":")[2] not in told.log

        # Past the proxy there is no way, but there the module must go.
        variables["NO_PROXY"] = OUTSIDE
        told = run_app(
            f"https://{OUTSIDE}", endpoint.token, **variables, UPSTASH_STATE_TIMEOUT="0.3"
        )
        assert told["save"] is False
        assert "no answer from the endpoint within the time budget" in told.log
        assert proxy.asked == [f"{NAME}:443"]


def test_where_nothing_can_be_written_and_there_is_no_home(real_endpoint: LocalEndpoint) -> None:
    command = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    allowed = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"no mount namespaces here: {allowed.stderr}")
    # A name, so that it is looked up, for which there is a thread.
    told = run_app(f"http://localhost:{port_of(real_endpoint)}", real_endpoint.token, *command)
    assert told == {**WORKS, "can_write": False}


@pytest.mark.parametrize("refused", ["ports", "writing"])
def test_the_same_where_there_are_no_namespaces(
    https_endpoint: LocalEndpoint, authority: Authority, refused: str
) -> None:
    elsewhere = "127.0.0.1:6379"
    rules: dict[str, Mapping[str, str]] = {
        "ports": {"ONLY_PORT": port_of(https_endpoint), "PROBES": elsewhere},
        "writing": {"NO_WRITING": "1"},
    }
    told = run_app(
        https_endpoint.url,
        https_endpoint.token,
        REQUESTS_CA_BUNDLE=str(authority.bundle),
        **rules[refused],
    )
    if refused == "ports":
        assert told == {**WORKS, "probes": {elsewhere: "ConnectionRefusedError"}}
    else:
        assert told == {**WORKS, "can_write": False}


def test_the_proxys_port_is_the_only_one_where_there_are_no_namespaces(
    https_endpoint: LocalEndpoint, authority: Authority
) -> None:
    with Proxy({f"{NAME}:443": int(port_of(https_endpoint))}, credentials=CREDENTIALS) as proxy:
        told = run_app(
            URL,
            https_endpoint.token,
            REQUESTS_CA_BUNDLE=str(authority.bundle),
            HTTPS_PROXY=f"http://{CREDENTIALS}@127.0.0.1:{proxy.port}",
            ONLY_PORT=str(proxy.port),
        )
    assert told == WORKS
    assert proxy.asked == [f"{NAME}:443"]
    assert CREDENTIALS.partition(":")[2] not in told.log
