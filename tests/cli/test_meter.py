"""The meter counts what passes it."""

from __future__ import annotations

from upstash_state import UpstashRedis
from upstash_state.cli.meter import metered
from upstash_state.local import LocalEndpoint


def test_the_meter_counts_each_command_of_a_pipeline(few: LocalEndpoint) -> None:
    with metered() as cost, UpstashRedis(few.url, few.token) as client:
        client.pipeline().set("a", "x" * 1000).get("a").execute()
        client.get("a")
    assert (cost.requests, cost.commands) == (2, 3)
    assert cost.statuses == {200: 2}
