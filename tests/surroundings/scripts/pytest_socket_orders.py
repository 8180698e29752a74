"""`disable_socket()` before the import, and after use: blocked; saves afterwards"""

import socket

import pytest_socket
from probes import ORDER, URL, saves

pytest_socket.disable_socket()

from upstash_state import UpstashError, UpstashRedis, redis_save_order, reset_client


def blocked() -> None:
    assert not redis_save_order("5866", ORDER), "not blocked"
    try:
        UpstashRedis(URL, "token").ping()
    except UpstashError as error:
        assert "SocketBlocked" in str(error) or "A test tried to use socket" in str(error), error
    else:
        raise AssertionError("not blocked")


blocked()
pytest_socket.enable_socket()
saves()
pytest_socket.disable_socket()
reset_client()
blocked()
pytest_socket.enable_socket()
reset_client()
saves()
pytest_socket.socket_allow_hosts(["192.0.2.1"])
reset_client()
blocked()
pytest_socket._remove_restrictions()
reset_client()
saves()
assert socket.socket.__module__ == "socket"
