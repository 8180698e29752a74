"""Recordings as files: YAML that a person can review, and that loads back to the same exchanges.

An order is stored as JSON text, so it is written as a block of indented JSON under the key `json`.
It is not turned into YAML, because YAML reads an unquoted 14:30 as 870 and `no` as false: whoever
edits an order by hand would change it without noticing. The block comes back as the one-line text
that it was made from; text for which that does not work out is written as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

try:
    import yaml
except ImportError as error:
    raise ImportError("recordings need PyYAML: pip install PyYAML") from error

from ..transport import COMMAND, PIPELINE, TRANSACTION
from .exchange import (
    KEPT_HEADERS,
    UNFIT_FOR_YAML,
    Exchange,
    RecordingError,
    Request,
    encode,
    indented,
    is_item,
    text_of,
)

FORMAT = 1

_HEAD = """\
# What an Upstash REST endpoint answered, recorded by upstash_state. Made to be read and reviewed.
# Under "json: |" stands text as Redis holds it, indented for reading.
"""
_BODIES = ("answer", "body", "body_base64")
_KEYS = {"path", "command", "commands", "phase", "status", "headers", *_BODIES}
# libyaml's loader is ten times as fast, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    if (block := indented(data)) is not None:
        return dumper.represent_dict({"json": block + "\n"})
    # More than one newline at the end of a block would not be told from empty lines. Only in double
    # quotes does PyYAML escape YAML's own line breaks, such as U+0085.
    fits_block = "\n" in data and not data[0].isspace() and not data.endswith("\n\n")
    style = "|" if fits_block else None
    style = '"' if UNFIT_FOR_YAML.search(data) else style
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Yaml.add_representer(str, _text_node)


def dump(exchanges: Iterable[Exchange]) -> str:
    """The text of a recording's file."""
    data = {"format": FORMAT, "exchanges": [_written(exchange) for exchange in exchanges]}
    # With None as flow style, lists of words stand on one line.
    text: str = yaml.dump(
        data, Dumper=_Yaml, allow_unicode=True, sort_keys=False, width=100, default_flow_style=None
    )
    # Nothing but an exchange begins at the margin with a dash.
    spaced = text.replace("\n- path: ", "\n\n- path: ")
    return _HEAD + spaced.replace("exchanges:\n\n", "exchanges:\n", 1)


def _written(exchange: Exchange) -> dict[str, Any]:
    path, commands = exchange.request.path, exchange.request.commands
    written: dict[str, Any] = {"path": path}
    written |= {"command": commands[0]} if path == COMMAND else {"commands": commands}
    written |= {"phase": "teardown"} if exchange.in_teardown else {}
    written |= {"status": exchange.status}
    written |= {"headers": dict(exchange.headers)} if exchange.headers else {}
    if exchange.answer is not None:
        return written | {"answer": exchange.answer}
    try:
        return written | {"body": exchange.body.decode()}
    except UnicodeDecodeError:
        return written | {"body_base64": base64.b64encode(exchange.body).decode()}


def load(text: str) -> list[Exchange]:
    """Read what `dump` wrote, or what somebody has made of it by hand.

    Raises:
        RecordingError: It is not a recording. The text says where and why, not in which file.
    """
    try:
        # A few aliases can expand to more than fits in memory, and recordings never hold any.
        aliases = "&" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)
        )
        data: Any = None if aliases else yaml.load(text, Loader=_Loader)
    # What looks like a date, a number or a tag and is not one ends in whatever PyYAML runs into.
    except Exception as error:
        raise RecordingError(f"is not readable YAML: {' '.join(str(error).split())}") from None
    _need(not aliases, "has YAML aliases, which are not part of the format")
    _need(isinstance(data, dict) and "format" in data, "is no recording: it has no format version")
    given, exchanges = data["format"], data.get("exchanges")
    fits = given == FORMAT and not isinstance(given, bool)
    _need(fits, f"has format {given!r}, but {FORMAT} is read here: upgrade upstash-state")
    fits = isinstance(exchanges, list) and len(data) == 2
    _need(fits, "is no recording: next to its format it holds one list, exchanges")
    return [_read(item, number) for number, item in enumerate(exchanges, 1)]


def _need(condition: bool, complaint: str) -> None:
    if not condition:
        raise RecordingError(complaint)


def _read(item: Any, number: int) -> Exchange:
    try:
        item = _restored(item)
        _need(isinstance(item, dict), "it is no mapping of path, command, status and answer")
        unknown = item.keys() - _KEYS
        _need(not unknown, f"{min(map(str, unknown), default='')!r} is no key of the format")
        request = _request_from(item)
        status, phase, headers = item.get("status"), item.get("phase"), item.get("headers", {})
        fits = type(status) is int and 100 <= status <= 599
        _need(fits, f"status must be a number from 100 to 599, not {status!r}")
        _need(phase in (None, "teardown"), f"phase can only be teardown, not {phase!r}")
        fits = isinstance(headers, dict) and headers.keys() <= set(KEPT_HEADERS)
        _need(fits, f"headers may hold {' and '.join(KEPT_HEADERS)}, and no others")
        headers = {name: _text_from(value) for name, value in headers.items()}
        return Exchange(request, status, _body_from(item), headers, phase is not None)
    except (RecordingError, ValueError, RecursionError) as error:
        raise RecordingError(f"has a mistake in exchange {number}: {error}") from None


def _restored(value: Any) -> Any:
    """A value with the text that is indented in the file as Redis holds it."""
    if isinstance(value, list):
        return [_restored(member) for member in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"json"} and isinstance(value["json"], str):
        return text_of(json.loads(value["json"]))
    return {key: _restored(member) for key, member in value.items()}


def _request_from(item: dict[str, Any]) -> Request:
    path: Any = item.get("path")
    paths = (COMMAND, PIPELINE, TRANSACTION)
    _need(path in paths, f"path must be one of {', '.join(paths)}, not {path!r}")
    key, other = ("command", "commands") if path == COMMAND else ("commands", "command")
    given: Any = item.get(key)
    fits = other not in item and isinstance(given, list)
    _need(fits, f"path {path} goes with a list under {key!r}")
    commands = [given] if path == COMMAND else given
    fits = all(isinstance(command, list) and command for command in commands)
    _need(fits, "each command must be a list that begins with its name")
    return Request(path, tuple(tuple(map(_text_from, command)) for command in commands))


def _text_from(value: Any) -> str:
    _need(isinstance(value, str), f"{value!r} is not text: put it in quotes")
    return str(value)


def _body_from(item: dict[str, Any]) -> bytes:
    given = [key for key in _BODIES if key in item]
    _need(len(given) == 1, "it needs one of answer, body and body_base64")
    value = item[given[0]]
    if given[0] == "answer":
        fits = all(map(is_item, value if isinstance(value, list) else [value]))
        _need(fits, "an answer is a result or an error, or a list of those")
        return encode(value)
    if given[0] == "body":
        return _text_from(value).encode()
    try:
        return base64.b64decode(_text_from(value), validate=True)
    except binascii.Error as error:
        raise RecordingError(f"body_base64 is not base64: {error}") from None
