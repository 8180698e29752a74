"""`demo`: one process saves orders and is gone, another restores them and compares."""

from .run import demo

__all__ = ["demo"]
