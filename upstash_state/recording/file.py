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
import re
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
_KEYS = frozenset(
    {
        *("path", "command", "commands", "phase"),
        *("status", "headers", "answer", "body", "body_base64"),
    }
)
# Lines that a block can hold: more than one newline at its end would not be told from empty lines.
_PAGE = re.compile(r"[ -~][ -~\n]*[ -~]\n?")
# libyaml's loader is ten times as fast, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Flow(list[Any]):
    """A list to be written on one line."""


class _Block(str):
    """Text to be written line by line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _flow(dumper: yaml.SafeDumper, data: _Flow) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _block(dumper: yaml.SafeDumper, data: _Block) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|")


def _text_node(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    # Only in double quotes does PyYAML escape YAML's own line breaks, such as U+0085.
    style = '"' if UNFIT_FOR_YAML.search(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(_Flow, _flow)
_Dumper.add_representer(_Block, _block)


def dump(exchanges: Iterable[Exchange]) -> str:
    """The text of a recording's file."""
    text = yaml.dump(
        {"format": FORMAT, "exchanges": [_written(exchange) for exchange in exchanges]},
        Dumper=_Dumper,
        allow_unicode=True,
        sort_keys=False,
        default_flow_style=False,
        width=100,
    )
    # Nothing but an exchange begins at the margin with a dash.
    spaced = text.replace("\n- path: ", "\n\n- path: ")
    return _HEAD + spaced.replace("exchanges:\n\n", "exchanges:\n", 1)


def _written(exchange: Exchange) -> dict[str, Any]:
    written: dict[str, Any] = {"path": exchange.request.path}
    commands = [_list([_text(arg) for arg in command]) for command in exchange.request.commands]
    if exchange.request.path == COMMAND:
        written["command"] = commands[0]
    else:
        written["commands"] = commands
    if exchange.in_teardown:
        written["phase"] = "teardown"
    written["status"] = exchange.status
    if exchange.headers:
        written["headers"] = dict(exchange.headers)
    answer = exchange.answer
    if isinstance(answer, list):
        written["answer"] = [_item(item) for item in answer]
    elif answer is not None:
        written["answer"] = _item(answer)
    else:
        try:
            text = exchange.body.decode()
            written["body"] = _Block(text) if _PAGE.fullmatch(text) else text
        except UnicodeDecodeError:
            written["body_base64"] = base64.b64encode(exchange.body).decode()
    return written


def _item(item: dict[str, Any]) -> dict[str, Any]:
    return {"result": _result(item["result"])} if "result" in item else item


def _result(value: Any) -> Any:
    if isinstance(value, list):
        return _list([_result(item) for item in value])
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str | dict[str, str]:
    block = indented(text)
    return text if block is None else {"json": _Block(block + "\n")}


def _list(items: list[Any]) -> list[Any]:
    return items if any(isinstance(item, (dict, list)) for item in items) else _Flow(items)


def load(text: str) -> list[Exchange]:
    """Read what `dump` wrote, or what somebody has made of it by hand.

    Raises:
        RecordingError: It is not a recording. The text says where and why, not in which file.
    """
    try:
        # A few aliases can stand for more than any memory holds, and none is ever written.
        if "&" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)
        ):
            raise RecordingError("has YAML aliases, which are not part of the format")
        data = yaml.load(text, Loader=_Loader)
    except RecordingError:
        raise
    # What looks like a date, a number or a tag and is not one ends in whatever PyYAML runs into.
    except Exception as error:
        raise RecordingError(f"is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or "format" not in data:
        raise RecordingError("is no recording: it has no format version")
    if data["format"] != FORMAT or isinstance(data["format"], bool):
        raise RecordingError(
            f"has format {data['format']!r}, and this version of upstash_state reads format "
            f"{FORMAT}: upgrade upstash-state"
        )
    exchanges = data.get("exchanges")
    if not isinstance(exchanges, list) or len(data) > 2:
        raise RecordingError("is no recording: next to its format it holds one list, exchanges")
    return [_read(item, number) for number, item in enumerate(exchanges, 1)]


def _read(item: Any, number: int) -> Exchange:
    try:
        if not isinstance(item, dict):
            raise RecordingError("it is no mapping of path, command, status and answer")
        if unknown := item.keys() - _KEYS:
            raise RecordingError(f"{min(map(str, unknown))!r} is no key of the format")
        return Exchange(
            _request_from(item),
            _status_from(item.get("status")),
            _body_from(item),
            _headers_from(item.get("headers", {})),
            _phase_from(item.get("phase")),
        )
    except (RecordingError, ValueError, RecursionError) as error:
        raise RecordingError(f"has a mistake in exchange {number}: {error}") from None


def _request_from(item: dict[str, Any]) -> Request:
    path = item.get("path")
    if path not in (COMMAND, PIPELINE, TRANSACTION):
        raise RecordingError(f"path must be {COMMAND}, {PIPELINE} or {TRANSACTION}, not {path!r}")
    key, other = ("command", "commands") if path == COMMAND else ("commands", "command")
    if other in item or not isinstance(item.get(key), list):
        raise RecordingError(f"path {path} goes with a list under {key!r}")
    commands = [item[key]] if path == COMMAND else item[key]
    if not all(isinstance(command, list) and command for command in commands):
        raise RecordingError("each command must be a list that begins with its name")
    return Request(path, tuple(tuple(_text_from(arg) for arg in command) for command in commands))


def _text_from(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value.keys() == {"json"} and isinstance(value["json"], str):
        return text_of(json.loads(value["json"]))
    raise RecordingError(f"{value!r} is not text: put it in quotes")


def _status_from(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise RecordingError(f"status must be a number from 100 to 599, not {status!r}")
    return status


def _body_from(item: dict[str, Any]) -> bytes:
    given = [key for key in ("answer", "body", "body_base64") if key in item]
    if len(given) != 1:
        raise RecordingError("it needs one of answer, body and body_base64")
    value = item[given[0]]
    if given[0] == "answer":
        many = isinstance(value, list)
        return encode([_item_from(each) for each in value] if many else _item_from(value))
    if not isinstance(value, str):
        raise RecordingError(f"{given[0]} must be text")
    if given[0] == "body":
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise RecordingError(f"body_base64 is not base64: {error}") from None


def _item_from(item: Any) -> dict[str, Any]:
    if isinstance(item, dict) and "result" in item:
        item = {**item, "result": _result_from(item["result"])}
    if not is_item(item):
        raise RecordingError("an answer is a result or an error, or a list of those")
    return dict(item)


def _result_from(value: Any) -> Any:
    if isinstance(value, list):
        return [_result_from(item) for item in value]
    return _text_from(value) if isinstance(value, dict) else value


def _headers_from(headers: Any) -> dict[str, str]:
    if not isinstance(headers, dict) or headers.keys() - set(KEPT_HEADERS):
        raise RecordingError(f"headers may hold {' and '.join(KEPT_HEADERS)}, and no others")
    if not all(isinstance(value, str) for value in headers.values()):
        raise RecordingError("headers must be text: put them in quotes")
    return headers


def _phase_from(phase: Any) -> bool:
    if phase not in (None, "teardown"):
        raise RecordingError(f"phase can only be teardown, not {phase!r}")
    return phase is not None
