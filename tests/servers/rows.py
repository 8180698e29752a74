"""The table: which server or runner, what it does at SIGTERM, and what to add to the app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

APPS = Path(__file__).parent / "apps"
#: The name of a file in tests/surroundings/requirements.
ENVIRONMENT = "servers"

#: Options that tests need and the table does not show. The other apps listen on PORT.
OPTIONS = {
    "celery": "--concurrency 1 --loglevel INFO",
    "flask": "--port {port}",
    "granian": "--port {port}",
    "gunicorn": "--bind 127.0.0.1:{port}",
    "hypercorn": "--bind 127.0.0.1:{port}",
    "rq": "--url {redis}",
    "uvicorn": "--port {port}",
    "waitress-serve": "--listen 127.0.0.1:{port}",
}


@dataclass(frozen=True)
class Addition:
    """What an app adds so that its pending orders are sent.

    Attributes:
        name: What the table calls it.
        code: What the app in `apps` has because of it.
        instead: What it would have without.
    """

    name: str
    code: str
    instead: str = ""


LIFESPAN = "[`lifespan`](#asgi-apps)"
HANDLER = "[the signal handler](#other-apps)"
FASTAPI = Addition(LIFESPAN, "lifespan=lifespan")
STARLETTE = Addition(LIFESPAN, ", lifespan=own")
LITESTAR = Addition(LIFESPAN, ", lifespan=[lifespan]")
NICEGUI = Addition("`app.on_shutdown`", "app.on_shutdown(lambda: redis_flush())\n")
SIGNAL = Addition(HANDLER, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))", "pass")
IGNORE = Addition(
    "[`SIG_IGN`](#hypercorn-with-several-workers)",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "pass",
)
FLUSH = Addition("`redis_flush()` at the end of the job", "    redis_flush()\n")
ADDITIONS = [FASTAPI, STARLETTE, LITESTAR, NICEGUI, SIGNAL, IGNORE, FLUSH]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        framework: What the app is written with.
        app: The name of a file in `apps`.
        command: How it is started; {options} stands for those of OPTIONS.
        alone: Whether pending orders are sent at SIGTERM.
        ready: What a line of its output says once it is ready.
        workers: How many such lines there are.
        addition: What the app adds.
        helps: Whether pending orders are sent then.
        outage: Whether orders that failed in an outage are sent then, too.
        even: What the app has already.
        enqueue: The command that lets a runner save an order; None if a request does.
        latency: Seconds that the endpoint takes to answer at SIGTERM.
        later: The orders that the app saves after the shutdown.
    """

    framework: str
    app: str
    command: str
    alone: bool
    ready: str
    workers: int = 1
    addition: Addition | None = None
    helps: bool = True
    outage: bool = True
    even: str = ""
    enqueue: str | None = None
    latency: float = 0.3
    later: tuple[str, ...] = ()

    @property
    def runner(self) -> bool:
        """Whether it serves no requests."""
        return self.ready == SAVED or self.enqueue is not None

    @property
    def full(self) -> str:
        """The app, with what it adds."""
        return (APPS / f"{self.app}.py").read_text("utf-8")

    @property
    def bare(self) -> str:
        """The app without that."""
        text = self.full
        for one in [self.addition] if self.addition else ADDITIONS:
            text = text.replace(one.code, one.instead)
        return text

    @property
    def shown(self) -> str:
        """The command as the table shows it."""
        return " ".join(self.command.format(options="").split())

    @property
    def line(self) -> str:
        """Its line of the table, in Markdown."""
        alone = "sent" if self.alone else f"lost{self.even}"
        but = "" if self.outage else "; what failed in an outage is lost"
        then = ("sent, with " if self.helps else "lost, even with ") if self.addition else ""
        then += f"{self.addition.name}{but}" if self.addition else ""
        return f"| {self.framework} | `{self.shown}` | {alone} | {then} |"


# What the servers say when an app is ready, once for each worker.
UVICORN = "Application startup complete"
GUNICORN = "Booting worker"
GUNICORN_ASGI = "ASGI server listening"
GRANIAN = "Started worker"
HYPERCORN = "Running on http"
WAITRESS = "Serving on"
FLASK = "Running on http"
NICEGUI_READY = "NiceGUI ready"
# What the runners say when the order is saved.
SAVED = "saved (True|False)"

FASTAPI_APP = ("FastAPI", "fastapi_app")
FLASK_APP = ("Flask", "flask_app")
CELERY = "celery --app app worker {options} --pool "
RQ = "rq worker {options} --worker-class "
ENQUEUE = "rq enqueue {options} app.save 1"

ROWS = [
    Row(*FASTAPI_APP, "uvicorn {options} app:app", False, UVICORN, 1, FASTAPI),
    Row(*FASTAPI_APP, "uvicorn {options} --workers 2 app:app", False, UVICORN, 2, FASTAPI),
    Row(*FASTAPI_APP, "uvicorn {options} --reload app:app", False, UVICORN, 1, FASTAPI),
    Row(
        "Starlette",
        "starlette_app",
        "uvicorn {options} app:app",
        False,
        UVICORN,
        1,
        STARLETTE,
        later=("last",),
    ),
    Row("Litestar", "litestar_app", "uvicorn {options} app:app", False, UVICORN, 1, LITESTAR),
    Row("NiceGUI", "nicegui_app", "python app.py", False, NICEGUI_READY, 1, NICEGUI),
    Row(
        *FASTAPI_APP,
        "gunicorn {options} --workers 2 --worker-class uvicorn_worker.UvicornWorker app:app",
        False,
        UVICORN,
        2,
        FASTAPI,
    ),
    Row(
        *FASTAPI_APP,
        "gunicorn {options} --worker-class asgi app:app",
        True,
        GUNICORN_ASGI,
        1,
        FASTAPI,
    ),
    Row(*FASTAPI_APP, "granian {options} --interface asgi app:app", True, GRANIAN, 1, FASTAPI),
    Row(*FASTAPI_APP, "hypercorn {options} app:app", True, HYPERCORN, 1, FASTAPI),
    Row(
        "FastAPI",
        "hypercorn_app",
        "hypercorn {options} --workers 2 app:app",
        False,
        HYPERCORN,
        2,
        IGNORE,
        even=", also with `lifespan`",
        latency=1.0,
    ),
    Row(*FLASK_APP, "gunicorn {options} --workers 2 app:app", True, GUNICORN, 2),
    Row(*FLASK_APP, "gunicorn {options} --threads 4 app:app", True, GUNICORN),
    Row(*FLASK_APP, "gunicorn {options} --worker-class gevent app:app", True, GUNICORN),
    Row(*FLASK_APP, "granian {options} --interface wsgi app:app", True, GRANIAN),
    Row(*FLASK_APP, "waitress-serve {options} app:app", False, WAITRESS, 1, SIGNAL),
    Row(*FLASK_APP, "python app.py", False, FLASK, 1, SIGNAL),
    Row(*FLASK_APP, "flask run {options}", False, FLASK, 1, SIGNAL),
    Row(*FLASK_APP, "flask run {options} --debug", False, FLASK, 1, SIGNAL, helps=False),
    Row("Celery", "celery_app", CELERY + "prefork", True, SAVED),
    Row("Celery", "celery_app", CELERY + "threads", True, SAVED),
    Row("RQ", "rq_app", RQ + "rq.Worker", False, "Job OK", 1, FLUSH, outage=False, enqueue=ENQUEUE),
    Row("RQ", "rq_app", RQ + "rq.SimpleWorker", True, "Job OK", enqueue=ENQUEUE),
    Row(
        "a `Process`, by `terminate()`",
        "multiprocessing_app",
        "python app.py",
        False,
        SAVED,
        1,
        SIGNAL,
    ),
]

HEAD = [
    "| app | started by | pending orders at SIGTERM | with the line |",
    "| --- | --- | --- | --- |",
]


def table(rows: list[Row]) -> str:
    """The rows as a table in Markdown."""
    return "\n".join([*HEAD, *(row.line for row in rows)])
