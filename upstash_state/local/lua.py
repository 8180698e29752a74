"""Lua for fakeredis, in which scripts reach Redis, but neither Python nor the system."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from hashlib import sha1
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fakeredis.commands_mixins import scripting_mixin
from redis.exceptions import ResponseError

#: Of the processor's time, after which a script is stopped.
SECONDS = 5.0
#: More than a script and its largest arguments need (10 MB, and copies of them).
MEMORY_BYTES = 256 * 1024 * 1024
_CONFINE = Path(__file__).with_name("lua.lua").read_bytes()


def confine(client: Any) -> None:
    """Confine the scripts of a new fakeredis server.

    Args:
        client: Its client. No script has run yet.

    Raises:
        Exception: This fakeredis, or this Lua, cannot be confined.
    """
    mixin: Any = scripting_mixin
    lua = mixin.LUA_MODULE

    class Confined(lua.LuaRuntime):  # type: ignore[misc, name-defined]
        def __init__(self, **_: Any) -> None:
            lift = partial(self.set_max_memory, 0)
            arguments = (_sha1hex, lift, MEMORY_BYTES // 2048)
            self.confine, self._run, *self._end = super().execute(_CONFINE, *arguments)
            made.append(self)

        def execute(self, script: bytes | str) -> Any:
            script = script.encode() if isinstance(script, str) else script
            # Only while a script runs, because lupa cannot handle a lack of memory.
            self.set_max_memory(MEMORY_BYTES)
            try:
                return self._run(script, SECONDS)
            except mixin.SimpleError:
                raise
            except Exception as error:
                text = str(error).partition("\n")[0] or "not enough memory"
                raise mixin.SimpleError(f"ERR {text}") from error
            finally:
                self.set_max_memory(0)
                for function in self._end:
                    function()

    def make(**options: Any) -> Confined:
        limits = {"register_eval": False, "register_builtins": False, "max_memory": 0}
        return Confined(attribute_filter=_refuse_attribute, **options, **limits)

    made: list[Confined] = []
    # The server takes the class of its Lua from this module when its first script runs.
    mixin.LUA_MODULE = SimpleNamespace(**vars(lua) | {"LuaRuntime": make})
    try:
        client.eval("return 1", 0)
    finally:
        mixin.LUA_MODULE = lua
    made[0].confine()
    with suppress(ResponseError):
        raise RuntimeError(f"scripts see {client.eval('return tostring(python)', 0)!r}")


def _sha1hex(text: Any) -> bytes:
    return sha1(text if isinstance(text, bytes) else b"%.17g" % text).hexdigest().encode()


def _refuse_attribute(*_: object) -> str:
    raise AttributeError("not for scripts")
