"""Recordings as files: YAML that a person can review, and that loads back to the same exchanges.

An order is stored as JSON text, so it is written as a block of indented JSON under the key `json`.
It is not turned into YAML, because YAML reads an unquoted 14:30 as 870 and `no` as false, so that
an order edited by hand would change unnoticed. The block is read back as the one-line text that it
was written from. Text for which that is impossible is written as it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import yaml
except ImportError as error:
    raise ImportError("recordings need PyYAML: pip install PyYAML") from error

from ..serialization import escape_surrogates
from ..settings import Secret
from ..texts import shown
from ..transport import COMMAND, PIPELINE, TRANSACTION
from .exchange import HEADERS, Exchange, RecordingError, Request, encode
from .match import Varying, unchanged
from .secrets import holds_secret

FORMAT = 1

_HEAD = """\
# Requests to an Upstash REST endpoint and its answers, recorded by upstash_state for review.
# "json: |" marks text that Redis stores on one line, indented here.
"""
# Characters that JSON text may hold and YAML may not: unprintable ones and YAML's line breaks.
_UNFIT_FOR_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff\U0010ffff]")
# libyaml's loader is ten times as fast, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, secrets: Collection[Secret] = ()) -> list[Exchange]:
    """Read the exchanges in a recording's file.

    Args:
        path: The file.
        secrets: Tokens and host names that must not be in it.

    Raises:
        RecordingError: It cannot be used. The message continues after the file's name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordingError("does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"cannot be read: {error}") from None
    # First the whole text, since a comment, or an error of `load`, may show a token.
    exchanges = None if holds_secret([text], secrets) else load(text)
    if exchanges is None or any(holds_secret(_texts(one), secrets) for one in exchanges):
        raise RecordingError(
            "holds the token or the host of the endpoint. Remove it from the file and from the "
            "repository's history, and reset the token on console.upstash.com"
        )
    return exchanges


def write(
    path: Path, exchanges: Sequence[Exchange], secrets: Collection[Secret], varying: Varying
) -> bool:
    """Create or replace a recording's file, unless it records the same already.

    Args:
        path: The file. Missing folders are created.
        exchanges: The exchanges to write.
        secrets: Tokens and host names that must not be in it.
        varying: The values that may differ from those in the file.

    Returns:
        Whether the file is new or changed.

    Raises:
        RecordingError: A secret is in it, and nothing is written.
    """
    for number, exchange in enumerate(exchanges, 1):
        if holds_secret([path.name, *_texts(exchange)], secrets):
            raise RecordingError(
                f"is not written: exchange {number} or the file's name holds the token or the host "
                f"of the endpoint ({exchange.request.commands[0][0]}). Use other data in the test"
            )
    with suppress(RecordingError):
        if unchanged(read(path, secrets), exchanges, varying):
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # A rename, so that a reader or an interruption never finds half a file.
    unfinished = path.with_name(f".{os.getpid()}.tmp")
    unfinished.write_text(dump(exchanges), encoding="utf-8", newline="\n")
    unfinished.replace(path)
    return True


def _texts(exchange: Exchange) -> Iterator[str]:
    for command in exchange.request.commands:
        yield from command
    yield from exchange.headers.values()
    yield exchange.body.decode(errors="replace")


class _Yaml(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    if (block := _indented(data)) is not None:
        return dumper.represent_dict({"json": block + "\n"})
    # A block with more than one newline at its end could not be told from one before empty lines.
    fits_block = "\n" in data and not data[0].isspace() and not data.endswith("\n\n")
    # PyYAML escapes YAML's own line breaks, such as U+0085, only in double quotes.
    style = '"' if _UNFIT_FOR_YAML.search(data) else "|" if fits_block else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Yaml.add_representer(str, _text_node)


def dump(exchanges: Iterable[Exchange]) -> str:
    """Return the text of a recording's file."""
    data = {"format": FORMAT, "exchanges": [_written(exchange) for exchange in exchanges]}
    # With None as flow style, lists of words stand on one line.
    text: str = yaml.dump(
        data, Dumper=_Yaml, allow_unicode=True, sort_keys=False, width=100, default_flow_style=None
    )
    # Nothing but an exchange starts with a dash at the margin.
    spaced = text.replace("\n- path: ", "\n\n- path: ")
    return _HEAD + spaced.replace("exchanges:\n\n", "exchanges:\n", 1)


def _written(exchange: Exchange) -> dict[str, Any]:
    path, commands = exchange.request.path, [*map(list, exchange.request.commands)]
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
        return written | {"body": exchange.body}


def load(text: str) -> list[Exchange]:
    """Read what `dump` wrote, or what somebody has edited by hand.

    Raises:
        RecordingError: It is not a recording. The message continues after the file's name.
    """
    try:
        # A few aliases can expand to more than fits in memory, and recordings never hold any.
        aliases = "&" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)
        )
        data: Any = None if aliases else yaml.load(text, Loader=_Loader)
    # For invalid dates, numbers and tags, PyYAML raises whatever its conversion raises.
    except Exception as error:
        raise RecordingError(f"is not readable YAML: {' '.join(str(error).split())}") from None
    _need(not aliases, "has YAML aliases, which are not part of the format")
    fits = isinstance(data, dict) and "format" in data
    _need(fits, "is not a recording: it has no format version")
    version, exchanges = data["format"], data.get("exchanges")
    fits = type(version) is int and version == FORMAT
    _need(fits, f"has a format other than {FORMAT}, so it needs another version of this package")
    fits = isinstance(exchanges, list) and len(data) == 2
    _need(fits, "is not a recording: besides its format it must hold one list, exchanges")
    return [_read(item, number) for number, item in enumerate(exchanges, 1)]


def _need(condition: bool, complaint: str) -> None:
    if not condition:
        raise RecordingError(complaint)


def _read(item: Any, number: int) -> Exchange:
    try:
        item = _restored(item)
        _need(isinstance(item, dict), "it is not a mapping of path, command, status and answer")
        commands = item["commands"] if "commands" in item else [item["command"]]
        request = Request(item["path"], tuple(tuple(map(_text, command)) for command in commands))
        _need(all(request.commands), "a command begins with its name")
        paths = (COMMAND, PIPELINE, TRANSACTION)
        _need(request.path in paths, f"path must be one of {', '.join(paths)}")
        headers = {name: _text(value) for name, value in item.get("headers", {}).items()}
        fits = headers.keys() <= set(HEADERS)
        _need(fits, f"headers may hold {' and '.join(HEADERS)}, and no others")
        fits = type(item["status"]) is int and 100 <= item["status"] <= 599
        _need(fits, "status must be a number from 100 to 599")
        body = encode(item["answer"]) if "answer" in item else item["body"]
        body = body if isinstance(body, bytes) else _text(body).encode()
        exchange = Exchange(request, item["status"], body, headers, "phase" in item)
        written = _written(exchange)
        for key in {**item, **written}:
            if item.get(key) != written.get(key):
                raise ValueError(f"{key} cannot be {shown(repr(item.get(key)), 100)}")
        return exchange
    except KeyError as error:
        problem = f"it has no {error.args[0]}"
    except (RecordingError, AttributeError, TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    raise RecordingError(f"has a mistake in exchange {number}: {problem}")


def _restored(value: Any) -> Any:
    """Return a value with indented JSON as the text that Redis stores."""
    if isinstance(value, list):
        return [_restored(member) for member in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"json"} and isinstance(value["json"], str):
        return _json(json.loads(value["json"]))
    return {key: _restored(member) for key, member in value.items()}


def _text(value: Any) -> str:
    _need(isinstance(value, str), f"{value!r} is not text: put it in quotes")
    return str(value)


def _json(value: Any) -> str:
    """Return JSON text as this package stores it, with the surrogates escaped that UTF-8 lacks."""
    return escape_surrogates(json.dumps(value, ensure_ascii=False))


def _indented(text: str) -> str | None:
    """Return stored JSON text indented, or None if it could not be read back unchanged."""
    with suppress(ValueError, RecursionError):
        if text.startswith(("{", "[")) and _json(value := json.loads(text)) == text:
            block = json.dumps(value, ensure_ascii=False, indent=2)
            return _UNFIT_FOR_YAML.sub(lambda unfit: json.dumps(unfit[0])[1:-1], block)
    return None
