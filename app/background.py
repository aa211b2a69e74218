"""What runs without a request: jobs, webhooks, the broker's relay, the watch for duplicates and the upkeep. `crm
worker` is nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar
from litestar.datastructures import State

from app import probes
from app.admin.activities.routes import BULK as ACTIVITIES
from app.admin.assistant.queries import PRUNED_AT_ONCE as PRUNED_CONVERSATIONS
from app.admin.assistant.queries import prune_conversations
from app.admin.bulk import change_in_steps
from app.admin.calendar_sync.syncing import CalendarSyncing
from app.admin.connections.opening import Calendars
from app.admin.contacts.routes import BULK as CONTACTS
from app.admin.customers.routes import BULK as CUSTOMERS
from app.admin.deals.routes import BULK as DEALS
from app.admin.duplicates.watching import DuplicateWatch
from app.admin.erasure.service import erase_in_job
from app.admin.events.queries import SHOWN
from app.admin.exports.archive import make_archive
from app.admin.history.operations import undo_in_steps
from app.admin.imports.check import check_in_steps
from app.admin.imports.run import run_in_steps
from app.admin.imports.service import prune as prune_imports
from app.admin.jobs.schemas import JobKind
from app.admin.members.service import reassign_step
from app.admin.notes.routes import BULK as NOTES
from app.admin.notifications.watching import PRUNED_AT_ONCE, NotificationWatch, prune_notifications
from app.admin.projects.routes import BULK as PROJECTS
from app.admin.proposals.queries import PRUNED_AT_ONCE as PROPOSALS_AT_ONCE
from app.admin.proposals.queries import prune as prune_proposals
from app.admin.report_runs.service import make_report
from app.admin.reports.sums import FOLDED_AT_ONCE
from app.admin.reports.sums import prune as prune_sums
from app.crypto.keys import Keys
from app.db.database import Database
from app.events.webhooks.deliveries import prune_webhooks
from app.events.webhooks.sender import WebhookSender
from app.jobs.files import DROPPED_AT_ONCE, drop_old_archives
from app.jobs.queue import Kinds, prune_jobs
from app.jobs.worker import JobWorker
from app.mail.outbox import prune_mails
from app.records.maintenance import Step, Upkeep
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from app.tasks import beside
from app.telemetry import forget_dead_workers, measure_lag, note_start
from app.usage import measure_tenants
from app.web.addresses import Addresses

BULKS = (CUSTOMERS, CONTACTS, DEALS, PROJECTS, ACTIVITIES, NOTES)

log = structlog.get_logger("startup")


def create_worker(settings: Settings) -> Litestar:
    """What runs jobs and nothing else, with these settings. It answers probes and monitors."""
    return Litestar(
        route_handlers=[probes.router],
        openapi_config=None,
        lifespan=[_lifespan],
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


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    forget_dead_workers()
    watches = beside(measure_lag(), probes.watch_readiness(app.state.prober))
    async with app.state.database, watches, background(app.state):
        note_start()
        yield
    app.state.store.close()


@asynccontextmanager
async def background(state: State) -> AsyncIterator[None]:
    """Run jobs, send webhooks, publish events, look for duplicates and do the upkeep while the block does. At its end,
    what is being done comes to the end of its step, and goes on elsewhere.
    """
    settings: Settings = state.settings
    database: Database = state.database
    async with beside(
        JobWorker(database, settings, job_kinds(settings, database, state.store)).run(),
        _sending(settings, database),
        _publishing(settings, database),
        _mailing(settings, database),
        _syncing(settings, database),
        DuplicateWatch(database).run(),
        NotificationWatch(database).run(),
        _upkeep(settings, database, state.store),
    ):
        yield


def _sending(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """What sends webhooks. Without the key of their secrets they wait."""
    if not settings.encryption_key_bytes:
        log.warning("ENCRYPTION_KEYS is not set: webhooks are not sent, and calendars not synced")
        return None
    return WebhookSender(database, Keys(settings), Addresses(settings.webhook_networks), SHOWN).run()


def _syncing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """What syncs connected calendars. Without the key of their secrets they wait."""
    if not settings.encryption_key_bytes:
        return None
    calendars = Calendars(database, settings, Keys(settings), Addresses(settings.webhook_networks))
    return CalendarSyncing(database, calendars.open, settings.calendar_sync_minutes * 60).run()


def _mailing(settings: Settings, database: Database) -> Coroutine[Any, Any, None] | None:
    """What sends mails, if they go anywhere. Else they wait, and are given up after a day."""
    if not settings.sends_mail:
        log.warning("SMTP_URL is not set: no mail is sent")
        return None
    # Inside the function, because a service without mail need not load what makes them.
    from app.admin.mails.writers import mail_sender
    from app.mail.transport import mail_folder

    if not settings.smtp_url:
        log.info("SMTP_URL is not set: mails are kept as files", folder=str(mail_folder(settings)))
    return mail_sender(settings, database).run()


def job_kinds(settings: Settings, database: Database, store: ObjectStore) -> Kinds:
    """All that a job can do."""
    return {
        JobKind.BULK: change_in_steps(BULKS, settings),
        JobKind.UNDO: undo_in_steps(settings),
        JobKind.REASSIGN: reassign_step,
        JobKind.REPORT: make_report(database),
        JobKind.ERASURE: erase_in_job(settings),
        JobKind.IMPORT_CHECK: check_in_steps(settings, store),
        JobKind.IMPORT_RUN: run_in_steps(settings),
        JobKind.EXPORT: make_archive(database, store),
    }


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
        "old imports": Step(partial(prune_imports, database, settings.job_retention_days), 1),
        "old archives": Step(partial(drop_old_archives, database), DROPPED_AT_ONCE),
        "old jobs": Step(partial(prune_jobs, database, settings.job_retention_days), 1),
        "old mails": Step(partial(prune_mails, database), 1),
        "old notifications": Step(partial(prune_notifications, database), PRUNED_AT_ONCE),
        "old messages": Step(
            partial(prune_conversations, database, settings.assistant_retention_days), PRUNED_CONVERSATIONS
        ),
        "old proposals": Step(partial(prune_proposals, database), PROPOSALS_AT_ONCE),
        "old sums": Step(partial(prune_sums, database), FOLDED_AT_ONCE),
        "old deliveries": Step(partial(prune_webhooks, database), 1),
        **({"tenants": Step(partial(measure_tenants, database))} if settings.metrics_tenants else {}),
    }
    return Upkeep(database, also).run()
