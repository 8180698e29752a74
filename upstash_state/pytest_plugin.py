"""The pytest plugin: marker and fixture `upstash_recording`, fixture `upstash_recording_config`,
options --upstash-record, --upstash-local and --upstash-allow.

A test with the marker or the fixture gets its requests answered from
`recordings/<module>/<test>.yaml` beside its module. What does not fit fails it. Requests outside of
such tests are refused in a run that has some. Nothing that takes time to import is imported before
the first recorded test.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from .errors import NotRecordedError
from .settings import is_loopback
from .transport import Answer, Endpoint, Send, intercepting

if TYPE_CHECKING:
    from .recording import Recording

MARKER = "upstash_recording"
OPTIONS = ("allow_unused", "scope", "varying", "varying_keys")
SCOPES = {"class": pytest.Class, "module": pytest.Module}

_recording = pytest.StashKey["Recording"]()
_outcomes = pytest.StashKey[list[bool]]()
_tests_by_file = pytest.StashKey[dict[str, set[str]]]()
_guard = pytest.StashKey["Guard"]()
#: What the summary is to say, in order, each once.
_notes = pytest.StashKey["dict[str, None]"]()

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
    group.addoption(
        "--upstash-allow",
        metavar="HOSTS",
        default="",
        help="Hosts (as 127.0.0.1,localhost; * for all) that requests outside of recorded tests "
        "may reach. By default, a run with recorded tests refuses such requests.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before pytest_configure, since a conftest.py may import an app that restores its state.
    _set_up(early_config)


def pytest_configure(config: pytest.Config) -> None:
    _set_up(config)
    config.addinivalue_line(
        "markers",
        f"{MARKER}(*, allow_unused=False, varying=(), varying_keys=(), scope=None): "
        "answer the requests of upstash_state from a recording.",
    )


def _set_up(config: pytest.Config) -> None:
    if _guard in config.stash:
        return
    config.stash[_notes] = {}
    guard = config.stash[_guard] = Guard(config)
    stack = ExitStack()
    stack.enter_context(intercepting(guard.intercept))
    config.add_cleanup(stack.close)


class Guard:
    """Refuses requests outside of recorded tests, in a run that has recorded tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._begun_in = threading.current_thread()
        #: Whether a test is recorded; None until the tests are collected.
        self.recorded_tests: bool | None = None

    def intercept(self, wire: Endpoint, send: Send) -> Send:
        def attempt(path: str, body: bytes, deadline: float) -> Answer:
            host = urlsplit(wire.url).hostname or ""
            patterns = self._option("upstash_allow", "").split(",")
            allowed = any(fnmatch(host, pattern.strip()) for pattern in patterns)
            if allowed or _under_way() or not self._run_has_recordings():
                return send(path, body, deadline)
            text = f"refused outside of a recorded test: {self._cause()}, or let it through with "
            text += f"--upstash-allow={host if is_loopback(host) else '*'}"
            self._config.stash[_notes][text] = None
            raise NotRecordedError(text)

        return attempt

    def _run_has_recordings(self) -> bool:
        recording = self._option("upstash_record", "none") != "none"
        if recording or "upstash_state.recording" in sys.modules:
            return True
        if self.recorded_tests is None:
            # It is too early to know, so look for it: only a run that makes requests at import
            # takes the time for this.
            self.recorded_tests = any(map(_mentions_recordings, self._files()))
        return self.recorded_tests

    def _option(self, name: str, default: Any) -> Any:
        # The first of them is empty until all of pytest's plugins and conftest.py are known.
        known = getattr(self._config, "known_args_namespace", None)
        return getattr(self._config.option, name, getattr(known, name, default))

    def _files(self) -> Iterator[Path]:
        ignored = [*self._config.getini("norecursedirs"), "site-packages", "__pycache__"]
        tops = self._option("file_or_dir", []) or self._config.getini("testpaths") or ["."]
        for top in tops:
            path = self._config.invocation_params.dir / str(top).split("::")[0]
            if path.is_file():
                yield path
            for folder, folders, files in os.walk(path):
                folders[:] = [
                    name
                    for name in folders
                    if not any(fnmatch(name, pattern) for pattern in ignored)
                    and not Path(folder, name, "pyvenv.cfg").exists()
                ]
                yield from (Path(folder, name) for name in files if name.endswith(".py"))

    def _cause(self) -> str:
        """Who made the request that is made now, and what to do about it."""
        frames = list(self._frames_of_the_app())
        places = [
            f"{'import of ' if name == '<module>' else name + ' in '}{file}, line {line}"
            for file, name, line in frames[:1] + frames[1:][-1:]
        ]
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        where = ", called from ".join(places) or test or "unknown"
        thread = threading.current_thread()
        if thread is not self._begun_in:
            return (
                f"thread {thread.name!r} ({where}). Mark the test that uses it with "
                f"@pytest.mark.{MARKER}, and end it before that test ends"
            )
        if any(name == "<module>" for _, name, _ in frames):
            return f"{where}. Call it in a function that a recorded test or its fixture calls"
        if test.endswith("(call)"):
            return f"{where}. Mark the test with @pytest.mark.{MARKER}"
        return (
            f"{where}. Let the fixture have the scope of a recorded test, or record it with "
            f'pytestmark = pytest.mark.{MARKER}(scope="module")'
        )

    def _frames_of_the_app(self) -> Iterator[tuple[Path, str, int]]:
        """The calls that led here, innermost first, of code that is neither pytest's nor ours."""
        frame = sys._getframe(1)
        while frame := frame.f_back:  # type: ignore[assignment]
            try:
                file = Path(frame.f_code.co_filename).relative_to(self._config.rootpath)
            except ValueError:
                continue
            ours = str(frame.f_globals.get("__name__")).partition(".")[0] == __package__
            if not ours and "site-packages" not in file.parts:
                yield file, frame.f_code.co_name, frame.f_lineno


def _under_way() -> list[Recording]:
    # Not imported here, since then everything would be.
    module = sys.modules.get(f"{__package__}.recording.recorder")
    return module.under_way if module else []


def _mentions_recordings(file: Path) -> bool:
    try:
        text = file.read_bytes()
    except OSError:
        return False
    return MARKER.encode() in text or b"upstash_state.recording" in text


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_guard].recorded_tests = any(map(_is_recorded, session.items))


def _is_recorded(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker(MARKER)) or MARKER in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def upstash_recording_config() -> dict[str, object]:
    """Options for all recordings, as of the marker. Override it in a conftest.py or a module."""
    return {}


@pytest.fixture(autouse=True, scope="module")
def _upstash_recording_of_module(request: pytest.FixtureRequest) -> Iterator[None]:
    with _scoped(request, "module"):
        yield


@pytest.fixture(autouse=True, scope="class")
def _upstash_recording_of_class(request: pytest.FixtureRequest) -> Iterator[None]:
    with _scoped(request, "class"):
        yield


@contextmanager
def _scoped(request: pytest.FixtureRequest, scope: str) -> Iterator[None]:
    node = request.node
    marked = isinstance(node, SCOPES[scope]) and any(
        marker.kwargs.get("scope") == scope for marker in node.iter_markers(MARKER)
    )
    if not marked:
        yield
        return
    failed_before = request.session.testsfailed
    with _begun(request, scope, lambda: request.session.testsfailed == failed_before):
        yield


@pytest.fixture(autouse=True)
def _upstash_recording_if_marked(request: pytest.FixtureRequest) -> None:
    # An autouse fixture, so that it comes before the app's own, which may make requests.
    if _is_recorded(request.node):
        request.getfixturevalue(MARKER)


@pytest.fixture
def upstash_recording(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """The test's recording: replayed, or made with --upstash-record. See its `fail_next`."""
    item = request.node
    outcomes: list[bool] = []
    item.stash[_outcomes] = outcomes
    # A file that a failing test has made would make the failure look right.
    with _begun(request, None, lambda: bool(outcomes) and all(outcomes)) as recording:
        item.stash[_recording] = recording
        yield recording


@contextmanager
def _begun(
    request: pytest.FixtureRequest, scope: str | None, passed: Callable[[], bool]
) -> Iterator[Recording]:
    try:
        from .environment import environment
        from .recording import RecordingError
        from .recording.recorder import records
    except ImportError as error:
        raise _failure(error) from None
    node = request.node
    mode = request.config.getoption("--upstash-record")
    path = _path(node)
    with ExitStack() as stack:
        try:
            options = _options(request, scope)
            if scope is None:
                _check_for_collisions(node, path)
            # Inside a wider recording, its endpoint holds what the wider fixtures have saved.
            shares = any(not recording.replays for recording in _under_way())
            if request.config.getoption("--upstash-local") and records(path, mode) and not shares:
                from .local import LocalEndpoint

                endpoint = stack.enter_context(LocalEndpoint())
                named = environment(
                    UPSTASH_REDIS_REST_URL=endpoint.url, UPSTASH_REDIS_REST_TOKEN=endpoint.token
                )
                stack.enter_context(named)
            recording = _made(node, path, mode, scope, options)
        except (RecordingError, ImportError) as error:
            raise _failure(error) from None
        with recording.running():
            yield recording
        if passed():
            try:
                hint = recording.finish()
            except RecordingError as error:
                raise _failure(error) from None
            if hint:
                request.config.stash[_notes][hint] = None


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
            text = problem or f"{recording.name} is not written, because the test did not pass."
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
    if call.when == "call" and _outcomes in item.stash:
        # Asked of the report, since unittest's failures and xfail are known only there. A test
        # with subtests has a report for each, and then its own.
        item.stash[_outcomes].append(report.passed)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker of pytest-xdist has no terminal.
    if hasattr(session.config, "workeroutput"):
        notes = session.config.stash[_notes]
        session.config.workeroutput[MARKER] = list(notes)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    notes: list[str] = getattr(node, "workeroutput", {}).get(MARKER, [])
    node.config.stash[_notes].update(dict.fromkeys(notes))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if notes := config.stash[_notes]:
        terminalreporter.section("upstash_state")
        for note in notes:
            terminalreporter.write_line(note)


def _options(request: pytest.FixtureRequest, scope: str | None) -> dict[str, Any]:
    """What the suite and the markers say, the nearest last."""
    from .recording import RecordingError

    node = request.node
    given = [
        (
            "the fixture upstash_recording_config",
            request.getfixturevalue("upstash_recording_config"),
        )
    ]
    for marker in reversed(list(node.iter_markers(MARKER))):
        unnamed = {"its arguments without a name": marker.args} if marker.args else {}
        given.append((f"the marker {MARKER} of {node.nodeid}", {**marker.kwargs, **unnamed}))
    options: dict[str, Any] = {}
    for source, some in given:
        if unknown := some.keys() - set(OPTIONS):
            raise RecordingError(
                f"{source} takes {', '.join(OPTIONS)}, not {', '.join(sorted(unknown))}"
            )
        options |= some
    if (
        any("scope" in marker.kwargs for marker in node.own_markers if marker.name == MARKER)
        and scope is None
    ):
        raise RecordingError(
            f"scope is for the markers of modules and classes: {node.nodeid} is a test"
        )
    if options.pop("scope", None) not in (None, *SCOPES):
        raise RecordingError(f"the scope of the marker {MARKER} is one of {', '.join(SCOPES)}")
    return options


def _made(
    node: pytest.Item, path: Path, mode: Any, scope: str | None, options: dict[str, Any]
) -> Recording:
    from .recording.explain import Options
    from .recording.match import Varying
    from .recording.recorder import Recording

    command = f"    pytest --upstash-record=all {_quoted(node.nodeid)}"
    arguments = f'scope="{scope}", {{}}' if scope else "{}"
    mark = "pytestmark = " if scope == "module" else "@"
    how = Options(
        Varying.of(options.get("varying", ()), options.get("varying_keys", ())),
        # Of the fixtures of a module, a run of some of its tests uses some.
        options.get("allow_unused", scope is not None),
        again=f"{command}\n    (add --upstash-local to do so without credentials)",
        declare=f"    {mark}pytest.mark.{MARKER}({arguments})",
        without_database="pytest --upstash-local",
    )
    return Recording(path, mode, how)


def _failure(reason: object) -> BaseException:
    return pytest.fail.Exception(str(reason), pytrace=False)


def _path(node: Any) -> Path:
    folder = node.path.parent / "recordings"
    nodes = [other.name for other in node.listchain() if isinstance(other, pytest.Class)]
    if isinstance(node, pytest.Item):
        nodes.append(node.name)
    if not nodes:
        return Path(folder, f"{node.path.stem}.yaml")
    name = _UNFIT_FOR_A_NAME.sub("-", ".".join(nodes))
    if len(name.encode()) + len(".yaml") > _LONGEST_NAME:
        from hashlib import sha256

        digest = sha256(name.encode()).hexdigest()[:16]
        start = name.encode()[: _LONGEST_NAME - len(f"-{digest}.yaml")]
        name = f"{start.decode(errors='ignore')}-{digest}"
    return Path(folder, node.path.stem, f"{name}.yaml")


def _check_for_collisions(item: pytest.Item, path: Path) -> None:
    from .recording import RecordingError

    stash = item.config.stash
    if _tests_by_file not in stash:
        files: dict[str, set[str]] = {}
        for other in filter(_is_recorded, item.session.items):
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
