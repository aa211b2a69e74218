"""Who writes which kind of mail."""

from __future__ import annotations

from app.admin.mails.digests import DigestMails
from app.admin.mails.notifications import NotificationMails
from app.admin.mails.queries import REPORT
from app.admin.mails.reports import ReportMails
from app.db.database import Database
from app.mail.outbox import Outbox
from app.mail.sender import MailSender
from app.settings import Settings


def mail_sender(settings: Settings, database: Database) -> MailSender:
    """What sends all mails of the service."""
    writers = {
        "notification": NotificationMails(database, settings).write,
        "digest": DigestMails(database, settings).write,
        REPORT: ReportMails(database, settings).write,
    }
    return MailSender(Outbox(database), settings, writers)
