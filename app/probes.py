"""/health, /ready, /live and /metrics, for load balancers and monitors. They need no token."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from litestar import Request, Response, get
from litestar.enums import MediaType
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, Gauge

from app.db.revisions import MIGRATIONS, VERSION_TABLE, revisions
from app.settings import Settings
from app.telemetry import metrics_page
from app.web.draining import is_draining
from app.web.input import skip_input_checks
from app.web.routing import Routes

TIMEOUT_SECONDS = 0.7
LOOK_EVERY_SECONDS = 10.0

READY = Gauge("crm_ready", "Whether all workers would say so at /ready, 1 or 0", multiprocess_mode="livemin")


class Health(Struct):
    """The answer of /health."""

    status: str
    version: str
    checks: dict[str, str]


class Status(Struct):
    """The answer of /ready and /live."""

    status: str


class Prober:
    """Checks the database over a connection of its own, so that a full pool does not look like a dead database."""

    def __init__(self, settings: Settings, table: str = VERSION_TABLE, migrations: Path = MIGRATIONS) -> None:
        self._dsn = settings.database_dsn
        self._table = table
        self._revisions = revisions(migrations)
        self._running: asyncio.Task[bool | None] | None = None

    async def migrated(self) -> bool | None:
        """Whether the database has this release's tables; None if it does not answer. Calls share a running check."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check())
        return await asyncio.shield(self._running)

    async def _check(self) -> bool | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    table = await (await connection.execute("SELECT to_regclass(%s)", [self._table])).fetchone()
                    if table is None or table[0] is None:
                        return False
                    found = await (
                        await connection.execute(f"SELECT version_num FROM {self._table}")  # noqa: S608
                    ).fetchone()
        except (psycopg.Error, OSError, TimeoutError):
            return None
        # An unknown revision is a newer one: the old release keeps serving while it is replaced.
        return found is not None and (found[0] == self._revisions[0] or found[0] not in self._revisions)


async def watch_readiness(prober: Prober) -> None:
    """Tell monitors whether requests may be sent here, until cancelled: nobody else may ask /ready."""
    while True:
        READY.set(bool(await prober.migrated()) and not is_draining())
        await asyncio.sleep(LOOK_EVERY_SECONDS)


@get("/health")
async def health(request: Request[Any, Any, Any]) -> Response[Health]:
    """Whether the database answers."""
    reachable = await request.app.state.prober.migrated() is not None
    body = Health(
        "healthy" if reachable else "unhealthy",
        version("crm-service"),
        {"database": "ok" if reachable else "unreachable"},
    )
    return Response(body, status_code=200 if reachable else 503)


@get("/ready")
async def ready(request: Request[Any, Any, Any]) -> Response[Status]:
    """Whether requests may be sent here: not if the database is away, migrations are missing, or the service stops."""
    if is_draining() or not await request.app.state.prober.migrated():
        return Response(Status("not_ready"), status_code=503)
    return Response(Status("ready"))


@get("/live")
async def live() -> Status:
    """Whether the process answers. For liveness probes: a restart does not help if the database is away."""
    return Status("alive")


@get("/metrics", media_type=MediaType.TEXT)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Prometheus metrics of all workers."""
    page = metrics_page(request.app.state.settings.metrics_tenants)
    return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})


router = Routes(
    "/", route_handlers=[health, ready, live, metrics], tags=["Operations"], before_request=skip_input_checks
)
