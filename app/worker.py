"""What each worker process of `crm serve`, `crm worker` and `crm identity serve` runs."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from app.libraries import without
from app.logs import configure_logging
from app.settings import Settings, load_settings

if TYPE_CHECKING:
    from litestar import Litestar

# What Litestar loads wherever it is installed, for bodies and pages of other kinds than ours.
NOT_OURS = ("advanced_alchemy", "attrs", "pydantic")
MAKERS = {"serve_app": "app.main", "jobs_app": "app.background"}


@without(*NOT_OURS)
def load(app: str) -> None:
    """Load what the function of this name needs. Processes that are forked afterwards share it."""
    gc.disable()  # nearly all of it stays: to look for the rest takes a fifth of the time
    importlib.import_module(MAKERS[app])
    gc.freeze()  # so that no collection of a worker writes to what they share
    gc.enable()


@without(*NOT_OURS)
def serve_app() -> Litestar:
    """The service. Only the parent process starts and stops it."""
    # Inside the function, because `crm worker` need not load all of it.
    from app.main import create_app

    return _started(create_app)


@without(*NOT_OURS)
def jobs_app() -> Litestar:
    """What runs jobs, and answers probes only. Only the parent process starts and stops it."""
    # Inside the function, because `crm serve` need not load it where it runs no jobs.
    from app.background import create_worker

    return _started(create_worker)


@without(*NOT_OURS)
def identity_app() -> Litestar:
    """What lets people log in. Only the parent process starts and stops it."""
    # Inside the function, because no other process needs it.
    from app.identity.main import create_identity

    return _started(create_identity)


def _started(create: Callable[[Settings], Litestar]) -> Litestar:
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    last: list[Callable[[], Awaitable[None]]] = []
    if settings.otel_exporter_otlp_endpoint:
        # Inside the function, because whoever traces nothing need not have the libraries.
        from app.tracing import export_spans

        last.append(export_spans(settings))
    with contextlib.suppress(PermissionError):
        # A terminal's Ctrl-C, or a signal to the whole group, would otherwise stop it before it has drained.
        os.setsid()
    threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    app = create(settings)
    app.on_shutdown.extend(last)
    gc.freeze()  # objects from startup live for ever: no collection goes through them
    return app


def _leave_with_parent(parent: int) -> None:
    """A parent that was killed can't stop its workers."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
