"""The way to the endpoint: policy above, wire below, and a seam between them."""

from .breaker import Breaker
from .budget import deadline_within, time_budget
from .late import late_attempts
from .policy import Success, Transport
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
    "Success",
    "Transport",
    "Wire",
    "deadline_within",
    "intercepting",
    "late_attempts",
    "time_budget",
]
