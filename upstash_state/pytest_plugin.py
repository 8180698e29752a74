"""The pytest plugin: marker and fixture `upstash_recording`, options --upstash-record and -local.

A test with the marker or the fixture gets its requests answered from
`recordings/<module>/<test>.yaml` beside its module. What does not fit fails it. Nothing beyond this
file and pytest is imported before the first such test.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .recording import Recording

MARKER = "upstash_recording"

_recording = pytest.StashKey["Recording"]()
_passed = pytest.StashKey[bool]()
_tests_by_file = pytest.StashKey[dict[str, set[str]]]()

# What some file system or shell does not bear in a name.
_UNFIT_FOR_A_NAME = re.compile(r"""[<>?%*:|"'/\\\x00-\x1f\x7f]""")
# What most file systems hold, in bytes.
_LONGEST_NAME = 255


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("upstash_state", "recorded answers of Upstash Redis")
    group.addoption(
        "--upstash-record",
        choices=("none", "once", "all"),
        default="none",
        help="none: replay only (default). once: record what has no file yet. all: record anew.",
    )
    group.addoption(
        "--upstash-local",
        action="store_true",
        help="Record against the embedded endpoint, without credentials.",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*, allow_unused=False, varying=(), varying_keys=()): "
        "answer the requests of upstash_state from a recording.",
    )


@pytest.fixture(autouse=True)
def _upstash_recording_if_marked(request: pytest.FixtureRequest) -> None:
    # An autouse fixture, so that it comes before the app's own, which may make requests.
    if request.node.get_closest_marker(MARKER) or MARKER in request.fixturenames:
        request.getfixturevalue(MARKER)


@pytest.fixture
def upstash_recording(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """The test's recording: replayed, or made with --upstash-record. See its `fail_next`."""
    try:
        from .recording import RecordingError, environment, records
    except ImportError as error:
        raise _failure(error) from None
    item = request.node
    config = request.config
    mode = config.getoption("--upstash-record")
    path = _path(item)
    with ExitStack() as stack:
        try:
            _check_for_collisions(item, path)
            if config.getoption("--upstash-local") and records(path, mode):
                from .local import LocalEndpoint

                endpoint = stack.enter_context(LocalEndpoint())
                stack.enter_context(environment(endpoint.url, endpoint.token))
            recording = _made(item, path, mode)
        except (RecordingError, ImportError) as error:
            raise _failure(error) from None
        item.stash[_recording] = recording
        item.stash[_passed] = False
        with recording.running():
            yield recording
        # A file that a failing test has made would make the failure look right.
        if item.stash[_passed]:
            try:
                recording.finish()
            except RecordingError as error:
                raise _failure(error) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    recording = item.stash.get(_recording, None)
    if recording is None:
        return (yield)
    try:
        result = yield
    except BaseException:
        # What does not fit may well be the cause.
        problem = recording.test_is_over()
        if problem or not recording.replays:
            text = problem or f"{recording!r} is not written, because the test did not pass."
            item.add_report_section("call", MARKER, text)
        raise
    if problem := recording.test_is_over():
        raise _failure(problem)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and _recording in item.stash:
        # Asked of the report, since unittest's failures and xfail are known only there.
        item.stash[_passed] = report.passed
    return report


def _made(item: pytest.Item, path: Path, mode: str) -> Recording:
    from .recording import Recording, RecordingError

    options: dict[str, object] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):
        options.update(marker.kwargs)
        if marker.args:
            options["its arguments without a name"] = marker.args
    allowed = {"allow_unused", "varying", "varying_keys"}
    if unknown := options.keys() - allowed:
        raise RecordingError(
            f"the marker {MARKER} of {item.nodeid} takes {', '.join(sorted(allowed))}, "
            f"not {', '.join(sorted(unknown))}"
        )
    command = f"    pytest --upstash-record=all {_quoted(item.nodeid)}"
    again = f"{command}\n    (add --upstash-local to do so without credentials)"
    return Recording(path, mode, again=again, **options)  # type: ignore[arg-type]


def _failure(reason: object) -> BaseException:
    return pytest.fail.Exception(str(reason), pytrace=False)


def _path(item: pytest.Item) -> Path:
    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    name = _UNFIT_FOR_A_NAME.sub("-", ".".join([*classes, item.name]))
    if len(name.encode()) + len(".yaml") > _LONGEST_NAME:
        from hashlib import sha256

        digest = sha256(name.encode()).hexdigest()[:16]
        start = name.encode()[: _LONGEST_NAME - len(f"-{digest}.yaml")]
        name = f"{start.decode(errors='ignore')}-{digest}"
    return item.path.parent / "recordings" / item.path.stem / f"{name}.yaml"


def _check_for_collisions(item: pytest.Item, path: Path) -> None:
    from .recording import RecordingError

    stash = item.config.stash
    if _tests_by_file not in stash:
        files: dict[str, set[str]] = {}
        for other in item.session.items:
            if other.get_closest_marker(MARKER) or MARKER in getattr(other, "fixturenames", ()):
                files.setdefault(_one_file(_path(other)), set()).add(other.nodeid)
        stash[_tests_by_file] = files
    tests = sorted(stash[_tests_by_file].get(_one_file(path), ()))
    if len(tests) > 1:
        raise RecordingError(
            f"{' and '.join(tests)} would both be recorded in {path}: give one another name, or "
            "its parameters ids that differ in more than case and what a file name cannot hold"
        )


def _one_file(path: Path) -> str:
    # Windows and macOS do not tell A.yaml from a.yaml.
    return str(path).casefold()


def _quoted(nodeid: str) -> str:
    return f'"{nodeid}"' if re.search(r"[^\w/.:-]", nodeid) else nodeid
