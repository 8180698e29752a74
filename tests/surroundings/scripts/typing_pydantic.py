"""`typing.get_type_hints` and `validate_call` on every public function and method"""

import inspect
import typing

from probes import ORDER
from pydantic import validate_call

import upstash_state.aio
import upstash_state.local
import upstash_state.recording
from upstash_state import redis_delete_order, redis_get_order, redis_save_order

MODULES = [upstash_state, upstash_state.aio, upstash_state.local, upstash_state.recording]
public = [getattr(module, name) for module in MODULES for name in module.__all__]
functions = [each for each in public if inspect.isfunction(each)]
methods = [
    method
    for each in public
    if inspect.isclass(each)
    for name, method in inspect.getmembers(each, callable)
    if (not name.startswith("_") or name == "__init__") and hasattr(method, "__annotations__")
]
assert len(functions) > 9
assert len(methods) > 30
for function in functions + methods:
    typing.get_type_hints(function)
for function in functions:
    validate_call(function)
assert validate_call(redis_save_order)("5866", ORDER)
assert validate_call(redis_get_order)("5866") == ORDER
assert validate_call(redis_delete_order)("5866")
