"""The application: everything that it is made of, put together in one place."""

from __future__ import annotations

from asyncio import Semaphore
from functools import partial

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from app import probes
from app.access.authenticator import Authenticator
from app.admin.activities.routes import router as activities
from app.admin.assistant.answers import Answers
from app.admin.assistant.mcp_servers.routes import router as mcp_servers
from app.admin.assistant.routes import router as conversations
from app.admin.assistant.settings.routes import router as assistant_settings
from app.admin.assistant.socket import talk
from app.admin.attachments.routes import router as attachments
from app.admin.audit.routes import router as audit
from app.admin.batch.routes import router as batch
from app.admin.calendar.public import MOST_AT_ONCE as MOST_CALENDARS
from app.admin.calendar.public import router as calendar_feeds
from app.admin.calendar.routes import router as calendar
from app.admin.connections.public import router as connection_callback
from app.admin.connections.routes import router as connections
from app.admin.contacts.routes import router as contacts
from app.admin.customers.routes import router as customers
from app.admin.deals.routes import router as deals
from app.admin.dry_run import DryRunDone
from app.admin.duplicates.routes import router as duplicates
from app.admin.erasure.routes import router as erasure
from app.admin.events.routes import router as events
from app.admin.exports.routes import router as exports
from app.admin.exports.service import Exports
from app.admin.history.routes import router as operations
from app.admin.http import dry_run_response, replay_response
from app.admin.imports.routes import router as imports
from app.admin.jobs.downloads import router as downloads
from app.admin.jobs.routes import router as jobs
from app.admin.mails.routes import router as unsubscribe
from app.admin.me.access_tokens.routes import router as access_tokens_
from app.admin.me.routes import router as me
from app.admin.members.routes import router as members
from app.admin.notes.routes import router as notes
from app.admin.notifications.routes import router as notifications
from app.admin.pipeline_stages.routes import router as pipeline_stages
from app.admin.projects.routes import router as projects
from app.admin.proposals.routes import router as proposals
from app.admin.report_runs.routes import router as report_runs
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
from app.docs import docs_router
from app.events.streams import MOST_STREAMS, LiveStreams
from app.events.waiting import NewEvents
from app.lifespan import lifespan
from app.mcp.endpoint import mcp_endpoint
from app.mcp.metadata import get_resource_metadata
from app.mcp.transport import Transport, load
from app.records.access_tokens import access_tokens_of
from app.records.bootstrap import TenantBootstrap
from app.records.idempotency import Replay
from app.records.memberships import memberships_of
from app.settings import Settings
from app.shared.redis import Shared
from app.storage.objects import ObjectStore
from app.telemetry import Telemetry
from app.web.addresses import Addresses
from app.web.cors import Cors
from app.web.cursor import CursorSigner
from app.web.error_responses import error_response
from app.web.input import CrmRequest, provide_file, provide_filters, read_input
from app.web.limits import ConcurrencyLimiter, RequestLimits
from app.web.proxies import Proxies
from app.web.routing import Routes
from app.web.security_headers import SecurityHeaders

ADMIN = (
    *(customers, contacts, pipeline_stages, deals, projects, activities, notes, attachments),
    *(
        tags,
        me,
        access_tokens_,
        calendar,
        connections,
        notifications,
        users,
        settings_,
        reports,
        report_runs,
        report_schedules,
    ),
    *(audit, events, webhooks, trash, proposals),
    *(assistant_settings, mcp_servers, conversations, talk),
    *(erasure, operations, jobs, batch, search, imports, duplicates, exports, members),
)


def create_app(settings: Settings) -> Litestar:
    """The service, with these settings."""
    database = Database(settings)
    memberships, access_tokens = memberships_of(database), access_tokens_of(database)
    bootstrap, new_events = TenantBootstrap(database, settings), NewEvents(database)
    shared = Shared(settings)
    app = Litestar(
        route_handlers=[
            Routes("/admin", route_handlers=ADMIN),
            *([console] if settings.console_dialect else []),
            *([mcp_endpoint, get_resource_metadata] if settings.mcp_enabled else []),
            *([downloads, calendar_feeds, unsubscribe, connection_callback] if settings.has_public_links else []),
            probes.router,
            *([] if settings.production else [docs_router()]),
        ],
        request_class=CrmRequest,
        before_request=read_input,
        dependencies={
            "filters": Provide(provide_filters, sync_to_thread=False),
            "file": Provide(provide_file, sync_to_thread=False),
        },
        exception_handlers={Replay: replay_response, DryRunDone: dry_run_response, Exception: error_response},
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,  # see app.openapi
        lifespan=[lifespan],
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "database": database,
                "memberships": memberships,
                "authenticator": Authenticator(
                    settings, memberships, access_tokens, partial(bootstrap.ensure, anew=True)
                ),
                "access_tokens": access_tokens,
                "cursors": CursorSigner(settings.jwt_secrets),
                "new_events": new_events,
                "streams": LiveStreams(database, bootstrap, new_events, shared, memberships, access_tokens),
                "streams_per_person": ConcurrencyLimiter(MOST_STREAMS, "live streams open"),
                "encryption": Keys(settings),
                "addresses": Addresses(settings.webhook_networks),
                "shared": shared,
                "mcp": Transport(partial(load, settings)),
                "exports": Exports(),
                "answers": Answers(),
                "calendar_turns": Semaphore(MOST_CALENDARS),
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
    cors = Cors(limited, settings.allowed_origins)
    app.state.origins = cors.origins
    measured = Telemetry(cors)
    app.asgi_handler = SecurityHeaders(measured, Proxies(settings.proxies))
    return app
