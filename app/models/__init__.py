"""The tables, as the migrations make them, without their indexes."""

from app.models.access_tokens import AccessToken
from app.models.assistant import AssistantSettings, AssistantUsage, McpServer
from app.models.attachments import Attachment, AttachmentUpload, RemovedObject
from app.models.audit import AuditCut, AuditEntry, AuditProgress, AuditSeal
from app.models.base import Base, Mergeable, Record, SoftDeleted, UserReference, UserReferences
from app.models.calendars import CalendarConnection, CalendarEntry, CalendarFeed, OAuthState
from app.models.conversations import Conversation, ConversationCall, ConversationMessage
from app.models.counts import RecordCount
from app.models.customers import Customer, CustomerTag, Tag
from app.models.duplicates import DuplicateGroup, DuplicateKey, DuplicatePair, DuplicateState
from app.models.feed import FeedPlace, FeedReader
from app.models.go_imports import GoImport
from app.models.idempotency import IdempotencyKey
from app.models.import_rows import ImportRow
from app.models.imports import Import
from app.models.jobs import Job, JobFile
from app.models.mails import Mail, RefusedAddress
from app.models.notifications import Notification, NotificationSettings, ReminderProgress
from app.models.proposals import Proposal
from app.models.reports import CustomerValue, ReportChange, ReportSchedule, ReportSum
from app.models.routines import Routine
from app.models.sales import Activity, Contact, Deal, Note, PipelineStage, Project, StageMove
from app.models.tenants import Member, TenantSettings, User
from app.models.webhooks import Webhook, WebhookDelivery, WebhookState

__all__ = [
    "AccessToken",
    "Activity",
    "AssistantSettings",
    "AssistantUsage",
    "Attachment",
    "AttachmentUpload",
    "AuditCut",
    "AuditEntry",
    "AuditProgress",
    "AuditSeal",
    "Base",
    "CalendarConnection",
    "CalendarEntry",
    "CalendarFeed",
    "Contact",
    "Conversation",
    "ConversationCall",
    "ConversationMessage",
    "Customer",
    "CustomerTag",
    "CustomerValue",
    "Deal",
    "DuplicateGroup",
    "DuplicateKey",
    "DuplicatePair",
    "DuplicateState",
    "FeedPlace",
    "FeedReader",
    "GoImport",
    "IdempotencyKey",
    "Import",
    "ImportRow",
    "Job",
    "JobFile",
    "Mail",
    "McpServer",
    "Member",
    "Mergeable",
    "Note",
    "Notification",
    "NotificationSettings",
    "OAuthState",
    "PipelineStage",
    "Project",
    "Proposal",
    "Record",
    "RecordCount",
    "RefusedAddress",
    "ReminderProgress",
    "RemovedObject",
    "ReportChange",
    "ReportSchedule",
    "ReportSum",
    "Routine",
    "SoftDeleted",
    "StageMove",
    "Tag",
    "TenantSettings",
    "User",
    "UserReference",
    "UserReferences",
    "Webhook",
    "WebhookDelivery",
    "WebhookState",
]
