"""The pytest plugin: marker and fixture `upstash_recording`, fixture `upstash_recording_config`,
options --upstash-record, --upstash-local and --upstash-allow, ini option upstash_block_network.

Requests of a test with the marker or the fixture are answered from
`recordings/<module>/<test>.yaml` beside its module. The plugin must neither break nor slow down a
run that does not use it. It needs only pytest 6.2 and pluggy 0.12, and after a test that is not
recorded, it only resets the process's client.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from .errors import NotRecordedError, UpstashError
from .process import reset_client
from .settings import is_loopback
from .transport import guarding

if TYPE_CHECKING:
    from .recording import Recording

MARKER = "upstash_recording"
RUN = "upstash_state run"
SCOPES = ("session", "package", "module", "class", "function")


def pytest_addoption(parser: pytest.Parser) -> None:
    add = parser.getgroup("upstash_state", "recorded answers of Upstash Redis").addoption
    text = "none: replay only (default); once: record tests that have no file; all: record again"
    add("--upstash-record", choices=("none", "once", "all"), default="none", help=text)
    text = "record against the embedded endpoint, without credentials"
    add("--upstash-local", action="store_true", help=text)
    text = "allow connections to HOSTS outside of recorded tests (example.com,*.internal, or *)"
    add("--upstash-allow", metavar="HOSTS", default="", help=text)
    text = "refuse connections to the database in every run, even in one without recorded tests"
    parser.addini("upstash_block_network", text, type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before pytest_configure, since a conftest.py may import an app that restores its state.
    _run_of(early_config)


def pytest_configure(config: pytest.Config) -> None:
    _run_of(config)
    text = "answer the requests of upstash_state from a recording."
    arguments = "*, allow_unused=False, varying=(), varying_keys=(), scope=None"
    config.addinivalue_line("markers", f"{MARKER}({arguments}): {text}")


def _run_of(config: pytest.Config) -> Run:
    run = config.pluginmanager.get_plugin(RUN)
    if run is None:
        config.pluginmanager.register(run := Run(config), RUN)
    return run


class Run:
    """One run of pytest: refuses real connections outside of recorded tests, and cleans up.

    Attributes:
        notes: The lines of the summary.
        tests_by_file: The test, class or module that each recording belongs to.
    """

    #: The first run in this process. It guards until the process ends.
    first: ClassVar[Run | None] = None

    def __init__(self, config: pytest.Config) -> None:
        self.notes: dict[str, None] = {}
        self._config = config
        self._thread = threading.current_thread()
        self._collected: list[pytest.Item] = []
        self.tests_by_file: dict[str, str] = {}
        #: Whether a test is recorded; None until the tests are collected.
        self._has_recordings: bool | None = None
        self._guard = ExitStack()
        self._guard.enter_context(guarding(self.refuse))
        Run.first = Run.first or self

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Before -k and -m deselect some.
        self._collected = [*items]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        recorded = [item for item in session.items if is_recorded(item)]
        self._has_recordings = bool(recorded)
        if recorded:
            self._config.pluginmanager.register(RecordedTests())
        for item in recorded:
            _add_fixtures(item)

    def pytest_runtest_logfinish(self) -> None:
        # A pending save must reach neither the next test's mock nor a database.
        reset_client(flush=False)

    def pytest_sessionfinish(self) -> None:
        some = self.option("lf") or any("::" in str(arg) for arg in self._config.args)
        if self.option("upstash_record") == "all" and not some:
            from .recording.items import unused_recordings

            unused = unused_recordings(self._collected)
            self.notes.update(dict.fromkeys(f"{file}: no test uses it" for file in unused))
        # A worker of pytest-xdist has no terminal.
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[MARKER] = list(self.notes)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.notes.update(dict.fromkeys(getattr(node, "workeroutput", {}).get(MARKER, ())))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.notes:
            terminalreporter.section("upstash_state")
            for note in self.notes:
                terminalreporter.write_line(note)

    def pytest_unconfigure(self) -> None:
        reset_client(flush=False)
        # Threads and exit handlers of the app may still save, so only a run inside another stops.
        if Run.first is not self:
            self._guard.close()

    def option(self, name: str) -> Any:
        # Until all plugins and conftest.py are loaded, only the known arguments have it.
        known = getattr(self._config, "known_args_namespace", None)
        return getattr(self._config.option, name, getattr(known, name, ""))

    def refuse(self, host: str) -> None:
        """Refuse a real connection, unless a recording or an option allows it."""
        patterns = [*filter(None, self.option("upstash_allow").split(","))]
        if is_loopback(host) or any(fnmatch(host, pattern.strip()) for pattern in patterns):
            return
        # Not imported, since a run without recordings does not need it.
        recorder: Any = sys.modules.get(f"{__package__}.recording.recorder")
        recording = recorder and any(not (one.replays or one.endpoint) for one in recorder.in_use)
        if recording or not (
            recorder
            or self._config.getini("upstash_block_network")
            or self.option("upstash_record") != "none"
            or self._may_have_recordings()
        ):
            return
        text = (
            f"connection refused outside of a recorded test: {self._where()}. Record the test with "
            f'@pytest.mark.{MARKER}, or its fixtures with the marker\'s scope="module", or allow '
            f"the connection with --upstash-allow={host}"
        )
        self.notes[text] = None
        raise NotRecordedError(text)

    def _may_have_recordings(self) -> bool:
        if self._has_recordings is None:
            # The tests are not collected yet. Only a run that connects during an import has to
            # search for recordings.
            tops = self.option("file_or_dir") or self._config.getini("testpaths") or ["."]
            paths = [self._config.invocation_params.dir / str(top).split("::")[0] for top in tops]
            folders = [path if path.is_dir() else path.parent for path in paths]
            files = (file for folder in folders for file in folder.rglob("recordings/**/*.yaml"))
            self._has_recordings = any(b"upstash_state" in file.read_bytes() for file in files)
        return self._has_recordings

    def _where(self) -> str:
        """Name the app's innermost and outermost function, the test, and the thread."""
        places, package, root = [], Path(__file__).parent, self._config.rootpath
        for frame in reversed(traceback.extract_stack()):
            file = Path(frame.filename)
            theirs = package not in file.parents and "site-packages" not in file.parts
            if theirs and root in file.parents:
                name = frame.name.replace("<module>", "import")
                places.append(f"{name} in {file.relative_to(root)}, line {frame.lineno}")
        ends = ", called from ".join(dict.fromkeys([*places[:1], *places[-1:]]))
        thread = threading.current_thread()
        other = "" if thread is self._thread else f"thread {thread.name!r}, which outlives its test"
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        return "; ".join(filter(None, [ends, test, other]))


class RecordedTests:
    """Hooks for recorded tests, registered only if there is one."""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        # Not called after a test that raised.
        recording: Recording | None = getattr(item, MARKER, None)
        if recording and (problem := recording.problem()):
            raise Failed(problem, pytrace=False)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, None]:
        report = (yield).get_result()
        recording: Recording | None = getattr(item, MARKER, None)
        if recording is None or call.when != "call":
            return
        # Only the report knows of unittest's failures and of xfail. Subtests come before the test.
        recording.passed, recording.in_teardown = report.passed, True
        if report.failed and not (call.excinfo and call.excinfo.errisinstance(Failed)):
            text = recording.problem(failed=True)
            if text and (crash := getattr(report.longrepr, "reprcrash", None)):
                # The test itself often shows only that a function returned False.
                crash.message = f"{text.splitlines()[0]} - {crash.message}"
            if not recording.replays:
                text = f"{recording.name} is not written, because the test did not pass."
            if text:
                report.sections.append((f"Captured {MARKER} call", text))


class Failed(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """Raised when a recording does not fit, or cannot be used or made."""

    __module__ = "builtins"


def is_recorded(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker(MARKER)) or MARKER in getattr(item, "fixturenames", ())


def _add_fixtures(item: Any) -> None:
    """Let an item use the fixtures of its recordings, before its other fixtures of that scope.

    Fixtures with autouse would do this as well, but they would cost every test of every run.
    """
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    scopes = {name: found[-1].scope for name, found in known.items() if found}
    names = [MARKER, *getattr(item, "fixturenames", ())]
    for scope, kind in (("class", pytest.Class), ("module", pytest.Module)):
        node = item.getparent(kind)
        if node and any(mark.kwargs.get("scope") == scope for mark in node.iter_markers(MARKER)):
            fixture = f"_{MARKER}_of_{scope}"
            scopes[fixture] = scope
            names.insert(0, fixture)
    ranks = {name: SCOPES.index(scopes.get(name, "function")) for name in names}
    item.fixturenames = sorted(ranks, key=ranks.__getitem__)


@pytest.fixture(scope="session")
def upstash_recording_config() -> dict[str, object]:
    """Options for all recordings, as the marker takes them. Override it in conftest.py."""
    return {}


def _fixture(scope: Any, name: str) -> Any:
    @pytest.fixture(scope=scope, name=name)
    def recorded(request: pytest.FixtureRequest) -> Iterator[Recording]:
        """The test's recording. Its `fail_next` simulates failures."""
        run, node, session = _run_of(request.config), request.node, request.session
        failed = session.testsfailed
        try:
            from .recording.items import recording_of

            recording = recording_of(request, scope, run.tests_by_file)
            with recording.running():
                workers = getattr(request.config, "workerinput", {}).get("workercount", 1)
                if workers > 1 and scope != "function" and not recording.replays:
                    raise UpstashError(
                        f"{recording.name} cannot be recorded by several processes, since each "
                        f"runs only some of its tests: add -n 0\n{recording.again}"
                    )
                if scope == "function":
                    node.upstash_recording = recording
                yield recording
            # If a failing test were recorded, a replay would repeat the failure.
            passed = recording.passed or scope != "function"
            if passed and session.testsfailed == failed:
                run.notes.update(dict.fromkeys(recording.finish()))
        except (UpstashError, ImportError) as error:
            raise Failed(str(error), pytrace=False) from None

    return recorded


upstash_recording = _fixture("function", MARKER)
_of_class = _fixture("class", f"_{MARKER}_of_class")
_of_module = _fixture("module", f"_{MARKER}_of_module")
