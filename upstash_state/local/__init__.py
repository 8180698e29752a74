"""The embedded endpoint: Upstash's REST API on loopback, for tests, demos and development.

    with LocalEndpoint() as endpoint:
        client = UpstashRedis(endpoint.url, endpoint.token)

It runs over fakeredis, in memory, or over a Redis server, and needs the extra `local`. README.md in
this folder says what it can do, and what Upstash has that it lacks.
"""

from .api import Usage
from .endpoint import LocalEndpoint

__all__ = ["LocalEndpoint", "Usage"]
