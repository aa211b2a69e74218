"""What runs while the service does, beside its requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar
from litestar.datastructures import State

from app.admin.reports.sums import FOLDED_AT_ONCE, fold
from app.db.database import Database
from app.db.startup import check_role
from app.events.places import BROKER, Reader
from app.events.webhooks.deliveries import tend as tend_webhooks
from app.jobs.queue import tend
from app.probes import watch_readiness
from app.records.maintenance import Sealing, Step, measure_routines, measure_sealing, repeat
from app.settings import Settings
from app.shared.rates import share_rates
from app.shared.redis import Shared
from app.tasks import beside
from app.telemetry import forget_dead_workers, measure_lag, note_start
from app.usage import share_usage

log = structlog.get_logger("startup")


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """From before the first request until after the last one."""
    database: Database = app.state.database
    if not app.state.store.configured:
        log.warning("S3_BUCKET is not set: attachments are not available")
    forget_dead_workers()
    settings: Settings = app.state.settings
    await asyncio.to_thread(check_role, settings.database_dsn, production=settings.production)
    if settings.read_dsn:
        await asyncio.to_thread(check_role, settings.read_dsn, production=settings.production, name="DATABASE_READ_URL")
    async with (
        database,
        beside(app.state.memberships.run(), measure_lag(), share_usage(), watch_readiness(app.state.prober)),
        beside(_sealing(settings, database), _adding_up(settings, database)),
        _background(app.state),
        _sharing(app.state),
    ):
        note_start()
        yield
        await app.state.mcp.close()
        await app.state.streams.stop()
        await app.state.answers.stop()
        await app.state.new_events.close()
    app.state.store.close()


@asynccontextmanager
async def _sharing(state: State) -> AsyncIterator[None]:
    """Share with other workers, through Redis if it is configured."""
    shared: Shared = state.shared
    if not shared.is_configured:
        yield
        return
    limiters = {"requests": state.authenticator.requests, "failures": state.authenticator.failures}
    works = (shared.run(), share_rates(shared, limiters), state.report_cache.share_drops(), state.streams.share())
    async with beside(*works):
        yield


@asynccontextmanager
async def _background(state: State) -> AsyncIterator[None]:
    """Where this service runs jobs itself, what `crm worker` does."""
    if not state.settings.serves_jobs:
        yield
        return
    # Inside the function, because a service beside workers need not load what only they need.
    from app.background import background

    async with background(state):
        yield


def _sealing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """Seals the audit log, and says what waits, so that it shows where no worker runs."""
    if not settings.upkeep_seconds:
        return None
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "waiting jobs": partial(tend, database),
        "waiting deliveries": partial(tend_webhooks, database),
        "unsealed entries": partial(measure_sealing, database),
        "regular work": partial(measure_routines, database),
        **({"standby": database.standby.measure} if database.standby is not None else {}),
        **({"events behind": Reader(database, BROKER).news} if settings.amqp_url else {}),
    }
    return Sealing(database, settings.upkeep_seconds, looks).run()


def _adding_up(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """Adds up what changed for the reports. It does not wait for the sealing, which may be far behind."""
    if not settings.upkeep_seconds:
        return None
    return repeat("sums", Step(partial(fold, database), FOLDED_AT_ONCE), settings.upkeep_seconds)
