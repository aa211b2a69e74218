"""How the feed shows each kind of record: as its list does."""

from __future__ import annotations

from app.admin.activities.queries import ACTIVITIES
from app.admin.attachments.queries import ATTACHMENTS
from app.admin.contacts.queries import CONTACTS
from app.admin.customers.queries import CUSTOMERS
from app.admin.deals.queries import DEALS
from app.admin.members.queries import MEMBERS
from app.admin.notes.queries import NOTES
from app.admin.pipeline_stages.queries import PIPELINE_STAGES
from app.admin.projects.queries import PROJECTS
from app.admin.report_schedules.queries import REPORT_SCHEDULES
from app.admin.settings.queries import SETTINGS
from app.admin.tags.queries import TAGS
from app.admin.webhooks.queries import WEBHOOKS

SHOWN = {
    repository.resource.kind: repository
    for repository in (
        CUSTOMERS,
        CONTACTS,
        DEALS,
        PROJECTS,
        ACTIVITIES,
        NOTES,
        ATTACHMENTS,
        TAGS,
        PIPELINE_STAGES,
        WEBHOOKS,
        REPORT_SCHEDULES,
        MEMBERS,
        SETTINGS,
    )
}
