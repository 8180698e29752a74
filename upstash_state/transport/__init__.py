"""The way to the endpoint: policy above, wire below, and a seam between them."""

from .breaker import Breaker
from .budget import deadline_within, time_budget
from .policy import Transport
from .seam import COMMAND, PIPELINE, TRANSACTION, Answer, Interceptor, Send, intercepting
from .wire import Wire

__all__ = [
    "COMMAND",
    "PIPELINE",
    "TRANSACTION",
    "Answer",
    "Breaker",
    "Interceptor",
    "Send",
    "Transport",
    "Wire",
    "deadline_within",
    "intercepting",
    "time_budget",
]
