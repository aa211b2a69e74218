"""The application: everything that it is made of, put together in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import MediaType

from app import probes
from app.access.authenticator import Authenticator
from app.admin.activities.routes import BULK as BULK_OF_ACTIVITIES
from app.admin.activities.routes import router as activities
from app.admin.attachments.routes import router as attachments
from app.admin.audit.routes import router as audit
from app.admin.batch.routes import router as batch
from app.admin.batch.service import only_changes_of_records
from app.admin.bulk import change_in_steps
from app.admin.contacts.routes import BULK as BULK_OF_CONTACTS
from app.admin.contacts.routes import router as contacts
from app.admin.customers.routes import BULK as BULK_OF_CUSTOMERS
from app.admin.customers.routes import router as customers
from app.admin.deals.routes import BULK as BULK_OF_DEALS
from app.admin.deals.routes import router as deals
from app.admin.dry_run import DryRunDone
from app.admin.erasure.routes import router as erasure
from app.admin.events.queries import SHOWN
from app.admin.events.routes import router as events
from app.admin.history.operations import undo_in_steps
from app.admin.history.routes import router as operations
from app.admin.http import dry_run_response, replay_response
from app.admin.jobs.downloads import router as downloads
from app.admin.jobs.routes import router as jobs
from app.admin.jobs.schemas import JobKind
from app.admin.me.routes import router as me
from app.admin.notes.routes import BULK as BULK_OF_NOTES
from app.admin.notes.routes import router as notes
from app.admin.pipeline_stages.routes import router as pipeline_stages
from app.admin.report_runs.routes import router as report_runs
from app.admin.report_runs.service import make_report
from app.admin.report_schedules.routes import router as report_schedules
from app.admin.reports.cache import ReportCache
from app.admin.reports.routes import router as reports
from app.admin.search.routes import router as search
from app.admin.settings.routes import router as settings_
from app.admin.tags.routes import router as tags
from app.admin.trash.routes import router as trash
from app.admin.users.routes import router as users
from app.admin.webhooks.routes import router as webhooks
from app.console.routes import router as console
from app.crypto.keys import Keys
from app.db.database import Database
from app.db.startup import check_role
from app.docs import docs_router
from app.events.places import BROKER, Reader
from app.events.streams import MOST_STREAMS, LiveStreams
from app.events.waiting import NewEvents
from app.events.webhooks.deliveries import prune_webhooks
from app.events.webhooks.deliveries import tend as tend_webhooks
from app.events.webhooks.sender import WebhookSender
from app.jobs.queue import Kinds, prune_jobs, tend
from app.jobs.worker import JobWorker
from app.records.bootstrap import TenantBootstrap
from app.records.idempotency import Replay
from app.records.maintenance import Sealing, Step, Upkeep
from app.settings import Settings
from app.shared.rates import share_rates
from app.shared.redis import Shared
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from app.telemetry import Telemetry, forget_dead_workers
from app.web.addresses import Addresses
from app.web.cors import Cors
from app.web.cursor import CursorSigner
from app.web.error_responses import error_response
from app.web.input import CrmRequest, provide_file, provide_filters, read_input
from app.web.limits import ConcurrencyLimiter, RequestLimits
from app.web.proxies import Proxies
from app.web.security_headers import SecurityHeaders

ADMIN = (
    *(customers, contacts, pipeline_stages, deals, activities, notes, attachments),
    *(tags, me, users, settings_, reports, report_runs, report_schedules, audit, events, webhooks, trash),
    *(erasure, operations, jobs, batch, search),
)
BULKS = (BULK_OF_CUSTOMERS, BULK_OF_CONTACTS, BULK_OF_DEALS, BULK_OF_ACTIVITIES, BULK_OF_NOTES)


log = structlog.get_logger("startup")


def create_app(settings: Settings) -> Litestar:
    """The service, with these settings."""
    database = Database(settings)
    bootstrap, new_events = TenantBootstrap(database, settings), NewEvents(database)
    shared = Shared(settings)
    app = Litestar(
        route_handlers=[
            Router("/admin", route_handlers=ADMIN, guards=[only_changes_of_records]),
            *([console] if settings.console_dialect else []),
            *([downloads] if settings.has_public_links else []),
            probes.router,
            *([] if settings.production else [docs_router()]),
        ],
        request_class=CrmRequest,
        before_request=_before_request,
        dependencies={
            "filters": Provide(provide_filters, sync_to_thread=False),
            "file": Provide(provide_file, sync_to_thread=False),
        },
        exception_handlers={Replay: replay_response, DryRunDone: dry_run_response, Exception: error_response},
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,  # see app.openapi
        lifespan=[_lifespan],
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "database": database,
                "authenticator": Authenticator(settings),
                "cursors": CursorSigner(settings.jwt_secrets),
                "new_events": new_events,
                "streams": LiveStreams(database, bootstrap, new_events, shared),
                "streams_per_person": ConcurrencyLimiter(MOST_STREAMS, "live streams open"),
                "encryption": Keys(settings),
                "addresses": Addresses(settings.webhook_networks),
                "shared": shared,
                "report_cache": ReportCache(settings.report_cache_seconds, shared),
                "bootstrap": bootstrap,
                "prober": probes.Prober(settings),
                "store": ObjectStore(settings),
            }
        ),
    )
    app.state.router = app.asgi_handler
    # Around the router, so that what never reaches a route is answered, counted and logged like the rest.
    limited = RequestLimits(app.asgi_handler)
    measured = Telemetry(Cors(limited, settings.allowed_origins), database.pool, settings.db_pool_max)
    app.asgi_handler = SecurityHeaders(measured, Proxies(settings.proxies))
    return app


def create_worker(settings: Settings) -> Litestar:
    """What runs jobs and nothing else, with these settings. It answers probes and monitors."""
    return Litestar(
        route_handlers=[probes.router],
        openapi_config=None,
        lifespan=[_worker_lifespan],
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "database": Database(settings),
                "prober": probes.Prober(settings),
                "store": ObjectStore(settings),
            }
        ),
    )


async def _before_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    await read_input(request)
    if request.method != "OPTIONS":
        return None
    # Litestar's own answer names the address's first method only.
    routes = (route for route in request.app.routes if route.path_format == request.scope["path_template"])
    methods = sorted({method for route in routes for method in route.methods})
    return Response(None, status_code=204, headers={"Allow": ", ".join(methods)}, media_type=MediaType.TEXT)


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    database: Database = app.state.database
    if not app.state.store.configured:
        log.warning("S3_BUCKET is not set: attachments are not available")
    forget_dead_workers()
    settings: Settings = app.state.settings
    await asyncio.to_thread(check_role, settings.database_dsn, production=settings.production)
    async with (
        database,
        _beside(_sealing(settings, database)),
        running_jobs(app.state, on=settings.serves_jobs),
        _sharing(app.state),
    ):
        yield
        await app.state.streams.stop()
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
    async with _beside(*works):
        yield


@asynccontextmanager
async def _worker_lifespan(app: Litestar) -> AsyncIterator[None]:
    forget_dead_workers()
    async with app.state.database, running_jobs(app.state):
        yield
    app.state.store.close()


def job_kinds(settings: Settings) -> Kinds:
    """All that a job can do."""
    return {
        JobKind.BULK: change_in_steps(BULKS, settings),
        JobKind.UNDO: undo_in_steps(settings),
        JobKind.REPORT: make_report,
    }


@asynccontextmanager
async def running_jobs(state: State, *, on: bool = True) -> AsyncIterator[None]:
    """Run jobs, send webhooks, publish events and do the upkeep while the block does. At its end, what is being done
    comes to the end of its step, and goes on elsewhere.
    """
    if not on:
        yield
        return
    settings: Settings = state.settings
    database: Database = state.database
    async with _beside(
        JobWorker(database, settings, job_kinds(settings)).run(),
        _sending(settings, database),
        _publishing(settings, database),
        _upkeep(settings, database, state.store),
    ):
        yield


def _sending(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """What sends webhooks. Without the key of their secrets they wait."""
    if not settings.encryption_key_bytes:
        log.warning("ENCRYPTION_KEYS is not set: webhooks are not sent")
        return None
    return WebhookSender(database, Keys(settings), Addresses(settings.webhook_networks), SHOWN).run()


def _publishing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """What publishes events to the message broker, if there is one."""
    if not settings.amqp_url:
        return None
    # Inside the function, because whoever publishes nothing need not have the library.
    from app.events.relay import Relay

    return Relay(database, settings, SHOWN).run()


def _upkeep(settings: Settings, database: Database, store: ObjectStore) -> Coroutine[Any, Any, None] | None:
    """The service's own periodic work."""
    if not settings.upkeep_seconds:
        return None
    also = {
        "objects": Step(partial(delete_removed_objects, database, store), 1),
        "old jobs": Step(partial(prune_jobs, database, settings.job_retention_days), 1),
        "old deliveries": Step(partial(prune_webhooks, database), 1),
    }
    return Upkeep(database, also).run()


def _sealing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """Seals the audit log, and says what waits, so that it shows where no worker runs."""
    if not settings.upkeep_seconds:
        return None
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "waiting jobs": partial(tend, database),
        "waiting deliveries": partial(tend_webhooks, database),
        **({"events behind": Reader(database, BROKER).news} if settings.amqp_url else {}),
    }
    return Sealing(database, settings.upkeep_seconds, looks).run()


@asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    """Do these, if anything, beside the block. At its end, they come to their ends side by side."""
    tasks = [asyncio.create_task(work) for work in works if work is not None]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
