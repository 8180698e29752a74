"""Every fault against every function, on first use and later, once and for good."""

from __future__ import annotations

import multiprocessing
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

import upstash_state
from tests.support import sending
from tests.support.clock import Stopwatch
from tests.support.environ import Environ
from tests.support.faults import FAULTS, Fault, FaultServer, Kind, wire
from tests.transport.fault_matrix import EIGHT, MARGIN, Report, run
from upstash_state import commands
from upstash_state.errors import UnavailableError
from upstash_state.settings import check_token
from upstash_state.transport import Transport
from upstash_state.transport.deadline import MAX_ANSWER_BYTES

pytestmark = pytest.mark.slow

# Each case has a process of its own, and most of them wait for something.
WORKERS = 8

CASES = [
    *((fault, "tcp") for fault in FAULTS if fault.plain),
    *((fault, "tls") for fault in FAULTS if fault.tls),
]


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Future[Report]]]:
    """The cases that were asked for, all under way at once, those that take longest first.

    Each process of pytest-xdist tries them all: give it `--dist loadfile`.
    """
    chosen: list[tuple[Fault, str]] = [
        item.callspec.params["case"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_fault"
    ]
    chosen.sort(key=lambda case: case[0].kind is not Kind.SILENT)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        yield {
            (fault.name, over): pool.submit(run, fault.name, over == "tls")
            for fault, over in chosen
        }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_fault(
    reports: dict[tuple[str, str], Future[Report]],
    case: tuple[Fault, str],
) -> None:
    fault, over = case
    assert reports[fault.name, over].result().problems == []


def test_matrix_is_complete(
    reports: dict[tuple[str, str], Future[Report]], capsys: pytest.CaptureFixture[str]
) -> None:
    done = [future.result() for future in reports.values()]
    cells = sum((report.cells for report in done), Counter())
    by_kind = Counter(fault.kind.name.lower() for fault in FAULTS)
    with capsys.disabled():
        print(f"\nfault matrix: {len(FAULTS)} faults ({_counts(by_kind)})")
        print(f"  {len(reports)} over TCP or TLS, {cells.total()} calls: {_counts(cells)}")
        print(f"  longest call: {max(report.longest for report in done):.2f} s")
    assert len(FAULTS) >= 30
    assert len(reports) == len(CASES)
    # Each function once and for good, cold and warm. Refused connections are not counted by
    # anyone, so these last.
    assert all(report.cells.total() >= len(EIGHT) * 2 for report in done)
    assert "neither" not in cells


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())


@pytest.fixture
def server(environ: Environ) -> Iterator[FaultServer]:
    with FaultServer() as server:
        environ.use(server.url, server.token)
        yield server
        upstash_state.reset_client(flush=False)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(
    "fault",
    [wire.never_answers, wire.headers_trickled, wire.body_trickled, wire.never_reads],
    ids=repr,
)
def test_a_byte_every_half_second_does_not_stretch_the_budget(
    server: FaultServer, environ: Environ, fault: Fault, warm: bool
) -> None:
    budget = 1.3
    environ.set(UPSTASH_STATE_TIMEOUT=str(budget))
    if warm:
        upstash_state.get_redis_client()
    assert server.pace == 0.5
    server.plan(fault, times=None)
    with Stopwatch() as watch:
        assert upstash_state.redis_save_order("1", {}) is False
    assert watch.seconds <= budget * (1 + MARGIN)


def test_a_refused_connection_is_retried(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan(wire.refused)
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        server.clear()

    monkeypatch.setattr("time.sleep", pause)
    transport = Transport(server.url, check_token(server.token), timeout=10)
    assert sending.run(transport, commands.ping())
    assert len(pauses) == 1
    transport.close()


@pytest.mark.parametrize(
    "fault", [wire.gzip_bomb, wire.endless_body, wire.endless_chunked_body], ids=repr
)
def test_an_answer_without_end_is_not_read_into_memory(server: FaultServer, fault: Fault) -> None:
    client = upstash_state.get_redis_client()
    assert client is not None
    # Twice, so that what the server itself holds is there before.
    for _ in range(2):
        server.plan(fault)
        tracemalloc.start()
        with pytest.raises(UnavailableError):
            client.get("k")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2.5 * MAX_ANSWER_BYTES
