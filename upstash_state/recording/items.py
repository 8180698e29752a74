"""Recordings of pytest's tests, classes and modules: their files and options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ..pytest_plugin import MARKER, is_recorded
from .exchange import RecordingError
from .recorder import Recording, short

CONFIG = "upstash_recording_config"

# Characters that some file system or shell does not allow in a name.
_UNFIT_FOR_A_NAME = re.compile(r"""[<>?%*:|"'/\\\x00-\x1f\x7f]""")
# Bytes that most file systems allow.
_LONGEST_NAME = 255


def recording_of(
    request: pytest.FixtureRequest, scope: str, tests_by_file: dict[str, str]
) -> Recording:
    """Create the recording of a test, or of a scope.

    Args:
        request: The fixture's.
        scope: "module", "class" or "function".
        tests_by_file: The tests, classes and modules so far, by the names of their recordings'
            files in lower case. This one is added.

    Raises:
        RecordingError: Another one has the same file, or an option is wrong.
    """
    node, option = request.node, request.config.getoption
    mode, path = option("--upstash-record"), path_of(node)
    # Windows and macOS do not tell A.yaml from a.yaml.
    other = tests_by_file.setdefault(str(path).casefold(), node.nodeid)
    if other != node.nodeid:
        raise RecordingError(
            f"{other} and {node.nodeid} would have the same recording, {path}: rename one, or give "
            "its parameters other ids. Upper case, and characters such as / and :, do not count"
        )
    # A run of some of a module's tests uses only some of its fixtures.
    options = {"allow_unused": scope != "function", **request.getfixturevalue(CONFIG)}
    args = [path]
    for marker in reversed(list(node.iter_markers(MARKER))):
        options |= marker.kwargs
        args += marker.args
    own = any("scope" in marker.kwargs for marker in node.own_markers if marker.name == MARKER)
    if (own and scope == "function") or options.pop("scope", "class") not in ("class", "module"):
        text = f'the marker {MARKER} takes scope="class" or scope="module" on a class or a module'
        raise RecordingError(f"{text} only ({node.nodeid})")
    try:
        recording = Recording(*args, mode=mode, **options)
    except TypeError as error:
        take = "take allow_unused, scope, varying and varying_keys, by name"
        raise RecordingError(f"{MARKER} and {CONFIG} {take}: {error} ({node.nodeid})") from None
    recording.local = option("--upstash-local")
    nodeid = f'"{node.nodeid}"' if re.search(r"[^\w/.:-]", node.nodeid) else node.nodeid
    hint = "    (without a database: --upstash-local)"
    recording.again = f"    pytest --upstash-record=all {nodeid}\n{hint}"
    marker = f"{'pytestmark = ' if scope == 'module' else '@'}pytest.mark.{MARKER}"
    arguments = "{}" if scope == "function" else f'scope="{scope}", {{}}'
    recording.declare = f"    {marker}({arguments})"
    return recording


def path_of(node: Any) -> Path:
    """Return the file of the recording of a test, class or module."""
    module = getattr(node, "path", None) or Path(str(node.fspath))
    names = [other.name for other in node.listchain() if isinstance(other, pytest.Class)]
    if isinstance(node, pytest.Item):
        names.append(node.name)
    if not names:
        return Path(module.parent, "recordings", f"{module.stem}.yaml")
    name = _UNFIT_FOR_A_NAME.sub("-", ".".join(names))
    if len(name.encode()) + len(".yaml") > _LONGEST_NAME:
        digest = sha256(name.encode()).hexdigest()[:16]
        start = name.encode()[: _LONGEST_NAME - len(f"-{digest}.yaml")]
        name = f"{start.decode(errors='ignore')}-{digest}"
    return Path(module.parent, "recordings", module.stem, f"{name}.yaml")


def unused_recordings(items: Iterable[pytest.Item]) -> list[str]:
    """Return the recordings beside these tests that no test, class or module of them has."""
    nodes = {node for item in items for node in item.listchain()}
    modules = {path_of(node).with_suffix("") for node in nodes if isinstance(node, pytest.Module)}
    scoped = [node for node in nodes if any("scope" in m.kwargs for m in node.iter_markers(MARKER))]
    used = {path_of(node) for node in (*filter(is_recorded, items), *scoped)}
    return [
        short(file)
        for folder in sorted({module.parent for module in modules})
        for file in sorted({*folder.glob("*.yaml"), *folder.glob("*/*.yaml")} - used)
        # Others may belong to `recording(…)`, or to a module that was not collected.
        if {file.with_suffix(""), file.parent} & modules
        or (file.parent != folder and not Path(folder.parent, f"{file.parent.name}.py").exists())
    ]
