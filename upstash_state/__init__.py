"""Back up orders to Upstash Redis over HTTPS, and restore them after a restart.

The functions never raise and never block for long: they log failures and fall back. Only the two
serializers raise.

    from upstash_state import redis_get_all_orders, redis_save_order

    STATE = redis_get_all_orders()
    redis_save_order("5866", STATE["5866"])

`upstash_state.aio` has the same functions as coroutine functions. `OrderStore` and `UpstashRedis`
raise exceptions, for callers who want to know what went wrong; every exception is an
`UpstashError`. Settings come from the environment: UPSTASH_REDIS_REST_URL and
UPSTASH_REDIS_REST_TOKEN, as the database's page shows them.
"""

from .client import UpstashRedis
from .errors import (
    AnswerError,
    AnswerTooLargeError,
    AuthenticationError,
    BudgetError,
    CapacityExceededError,
    CircuitOpenError,
    DataError,
    EndpointTimeoutError,
    KeyTooLargeError,
    MissingCredentialsError,
    NoPermissionError,
    OrderNotSerializableError,
    OrderUnreadableError,
    QuotaExceededError,
    RecordTooLargeError,
    RequestTooLargeError,
    ResponseError,
    RestoreError,
    SaveManyError,
    SettingsError,
    SlowDownError,
    UnavailableError,
    UpstashError,
    WrongTypeError,
)
from .pipeline import Pipeline
from .process import reset_client
from .serialization import deserialize_order, serialize_order
from .state import (
    get_redis_client,
    redis_cleanup_old_orders,
    redis_delete_order,
    redis_flush,
    redis_get_all_orders,
    redis_get_order,
    redis_get_order_count,
    redis_save_order,
    redis_save_orders,
)
from .store import Health, OrderStore
from .transport import time_budget

__version__ = "0.3.0"

__all__ = [
    "AnswerError",
    "AnswerTooLargeError",
    "AuthenticationError",
    "BudgetError",
    "CapacityExceededError",
    "CircuitOpenError",
    "DataError",
    "EndpointTimeoutError",
    "Health",
    "KeyTooLargeError",
    "MissingCredentialsError",
    "NoPermissionError",
    "OrderNotSerializableError",
    "OrderStore",
    "OrderUnreadableError",
    "Pipeline",
    "QuotaExceededError",
    "RecordTooLargeError",
    "RequestTooLargeError",
    "ResponseError",
    "RestoreError",
    "SaveManyError",
    "SettingsError",
    "SlowDownError",
    "UnavailableError",
    "UpstashError",
    "UpstashRedis",
    "WrongTypeError",
    "deserialize_order",
    "get_redis_client",
    "redis_cleanup_old_orders",
    "redis_delete_order",
    "redis_flush",
    "redis_get_all_orders",
    "redis_get_order",
    "redis_get_order_count",
    "redis_save_order",
    "redis_save_orders",
    "reset_client",
    "serialize_order",
    "time_budget",
]
