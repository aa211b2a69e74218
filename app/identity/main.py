"""The application `crm identity serve`: everything that it is made of, put together in one place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide

from app import probes
from app.identity.database import MIGRATIONS, VERSION_TABLE, Database, check_login
from app.identity.events import MOST_OF_PERSON
from app.identity.guards import Authenticator
from app.identity.mails import mail_sender
from app.identity.organizations.routes import router as organizations
from app.identity.passwords import PasswordHashes
from app.identity.sessions.routes import console as console_login
from app.identity.sessions.routes import router as sessions
from app.identity.upkeep import upkeep
from app.identity.users.routes import console as console_me
from app.identity.users.routes import router as users
from app.mail.transport import mail_folder
from app.settings import Settings
from app.tasks import beside
from app.telemetry import Telemetry, forget_dead_workers, measure_lag, note_start
from app.web.cors import Cors
from app.web.cursor import CursorSigner
from app.web.error_responses import error_response
from app.web.errors import AppError, Code
from app.web.input import CrmRequest, provide_filters, read_input
from app.web.limits import RateLimiter, RequestLimits
from app.web.proxies import Proxies
from app.web.security_headers import SecurityHeaders

# Pages on the developer's own machine, outside production and where CORS_ALLOWED_ORIGINS is not set.
LOCAL_PAGES = ("http://localhost:*", "http://127.0.0.1:*")

log = structlog.get_logger("startup")


def create_identity(settings: Settings) -> Litestar:
    """The application, with these settings. Its DATABASE_URL has a login of its own."""
    database = Database(settings)
    app = Litestar(
        route_handlers=[users, sessions, organizations, console_login, console_me, probes.router],
        request_class=CrmRequest,
        before_request=_before_request,
        dependencies={"filters": Provide(provide_filters, sync_to_thread=False)},
        exception_handlers={Exception: error_response},
        request_max_body_size=settings.max_body_bytes,
        openapi_config=None,  # see app.openapi
        lifespan=[_lifespan],
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "database": database,
                "hashes": PasswordHashes(settings),
                "cursors": CursorSigner(settings.jwt_secrets),
                "attempts": RateLimiter(MOST_OF_PERSON),
                "authenticator": Authenticator(settings, database),
                "prober": probes.Prober(settings, VERSION_TABLE, MIGRATIONS),
            }
        ),
    )
    # Around the router, as in app/main.py.
    origins = settings.allowed_origins or (() if settings.production else LOCAL_PAGES)
    cors = Cors(RequestLimits(app.asgi_handler), origins)
    measured = Telemetry(cors)
    app.asgi_handler = SecurityHeaders(measured, Proxies(settings.proxies))
    return app


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database: Database = app.state.database
    forget_dead_workers()
    await asyncio.to_thread(check_login, settings.database_dsn, production=settings.production)
    async with (
        database,
        beside(
            _mailing(settings, database),
            _upkeep(settings, database),
            measure_lag(),
            probes.watch_readiness(app.state.prober),
        ),
    ):
        note_start()
        yield


def _mailing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    if not settings.sends_mail:
        log.warning("SMTP_URL is not set: no mail is sent, and invitations are shown to admins")
        return None
    if not settings.smtp_url:
        log.info("SMTP_URL is not set: mails are kept as files", folder=str(mail_folder(settings)))
    return mail_sender(settings, database).run()


def _upkeep(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    return upkeep(database, settings) if settings.upkeep_seconds else None


async def _before_request(request: Request[Any, Any, Any]) -> None:
    if request.headers.getall("dry-run", []) not in ([], ["false"]):
        raise AppError(Code.DRY_RUN_UNSUPPORTED)
    await read_input(request)
