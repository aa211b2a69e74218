"""Every kind of record, and the rules that hold for it: declared here, and nowhere else.

The order is the order of locking: what others belong to comes first. Who locks records of several kinds follows it, so
that no two requests wait for each other.

The database keeps these rules, and the migrations make them: tests/laws/test_resources.py compares the two, and says
what is missing where. docs/adding-a-resource.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, func

from app.models import (
    Activity,
    Attachment,
    Contact,
    Customer,
    Deal,
    Member,
    Note,
    PipelineStage,
    Project,
    Record,
    ReportSchedule,
    SoftDeleted,
    Tag,
    TenantSettings,
    Webhook,
)
from app.models.base import table_of
from app.web.errors import AppError, Code, bad_field

LONGEST_TITLE = 255


@dataclass(frozen=True, eq=False, kw_only=True)
class Resource:
    """One kind of record. Each belongs to a tenant, has a version, and leaves an audit entry with each change.

    Whether it has a trash and an external_id, the bases of its model say; what it refers to, its foreign keys.
    """

    model: type[Record]
    # What the audit log and the data of errors call it: `customer`, as in `customer_id`.
    kind: str
    not_found: Code
    # The columns that make a record a person's own: with the person, or with a record that is the person's own. Any of
    # them is enough. The table's policy `own` says the same to the database.
    owned_by: tuple[str, ...] = ()
    # The column with the person whom a record belongs to, by default its creator. To set another needs MANAGE_ALL.
    owner: str | None = None
    # The references to what it belongs to: it goes into the trash with each of these, and comes back with it.
    parents: tuple[str, ...] = ()
    # The database keeps the number of its live rows, for the totals of lists.
    counted: bool = False
    # `crm_search` finds it.
    searched: bool = False
    # What people call one: the text of these columns. What has a trash is listed under it there.
    title: tuple[str, ...] = ()
    # Whoever may read one hears of its changes in the live stream.
    live: bool = False
    # So many a tenant may have, where they are always listed whole.
    most: int | None = None
    # Fields that make sense only together: an undo takes back all of them, or none.
    together: tuple[frozenset[str], ...] = ()
    # By constraint of the database: the code that a client gets, and for a 400 the field of the body.
    refusals: Mapping[str, tuple[Code, str | None]] = field(default_factory=dict)

    @property
    def table(self) -> Table:
        """Where its records are."""
        return table_of(self.model)

    @property
    def owned(self) -> bool:
        """Whether its records belong to people."""
        return bool(self.owned_by)

    @property
    def shown_title(self) -> ColumnElement[str]:
        """The title of one, for people to recognize it: its beginning, in one line."""
        parts = func.concat_ws(" ", *(self.table.c[name] for name in self.title))
        return func.btrim(func.regexp_replace(func.left(parts, LONGEST_TITLE), r"\s+", " ", "g"))

    @property
    def has_trash(self) -> bool:
        """Whether its records are put into a trash; else they are deleted."""
        return issubclass(self.model, SoftDeleted)

    @property
    def external_id_key(self) -> str:
        """The unique index that an external_id of a live record runs into when another has it."""
        return f"{self.table.name}_live_external_id_key"


CUSTOMERS = Resource(
    model=Customer,
    kind="customer",
    not_found=Code.CUSTOMER_NOT_FOUND,
    live=True,
    owned_by=("assigned_to",),
    counted=True,
    searched=True,
    title=("name",),
    refusals={"customer_tags_tag_fkey": (Code.TAG_NOT_FOUND, "tag_ids"), "held": (Code.ON_HOLD, None)},
)
CONTACTS = Resource(
    model=Contact,
    kind="contact",
    not_found=Code.CONTACT_NOT_FOUND,
    live=True,
    owned_by=("customer_id",),
    parents=("customer_id",),
    counted=True,
    searched=True,
    title=("first_name", "last_name"),
)
DEALS = Resource(
    model=Deal,
    kind="deal",
    not_found=Code.DEAL_NOT_FOUND,
    live=True,
    owned_by=("owner_id", "customer_id"),
    owner="owner_id",
    parents=("customer_id",),
    counted=True,
    searched=True,
    title=("title",),
    together=(
        frozenset({"stage_id", "actual_close_date", "lost_reason"}),
        frozenset({"amount", "currency"}),
        frozenset({"customer_id", "contact_id"}),
    ),
    refusals={"deals_contact_fkey": (Code.CONTACT_NOT_FOUND, "contact_id")},
)
PROJECTS = Resource(
    model=Project,
    kind="project",
    not_found=Code.PROJECT_NOT_FOUND,
    live=True,
    owned_by=("owner_id", "assignees"),
    owner="owner_id",
    parents=("customer_id",),
    counted=True,
    searched=True,
    title=("name",),
    together=(frozenset({"status", "completed_at"}),),
)
ACTIVITIES = Resource(
    model=Activity,
    kind="activity",
    not_found=Code.ACTIVITY_NOT_FOUND,
    live=True,
    owned_by=("assigned_to",),
    owner="assigned_to",
    parents=("customer_id", "deal_id", "project_id"),
    counted=True,
    searched=True,
    title=("title",),
    together=(
        frozenset({"status", "completed_at"}),
        frozenset({"due_date", "all_day"}),
        frozenset({"customer_id", "deal_id", "contact_id"}),
    ),
)
NOTES = Resource(
    model=Note,
    kind="note",
    not_found=Code.NOTE_NOT_FOUND,
    live=True,
    owned_by=("author_id",),
    parents=("customer_id", "deal_id", "activity_id", "project_id"),
    counted=True,
    searched=True,
    title=("content",),
    refusals={"notes_link_check": (Code.MISSING_LINK, "customer_id")},
)
ATTACHMENTS = Resource(
    model=Attachment,
    kind="attachment",
    not_found=Code.ATTACHMENT_NOT_FOUND,
    live=True,
    owned_by=("uploaded_by", "customer_id", "deal_id", "activity_id", "project_id"),
    parents=("customer_id", "deal_id", "activity_id", "project_id"),
    title=("file_name",),
)
TAGS = Resource(
    model=Tag,
    kind="tag",
    not_found=Code.TAG_NOT_FOUND,
    live=True,
    most=1000,
    refusals={"tags_name_key": (Code.TAG_EXISTS, None)},
)
PIPELINE_STAGES = Resource(
    model=PipelineStage,
    kind="pipeline_stage",
    not_found=Code.STAGE_NOT_FOUND,
    live=True,
    most=100,
    refusals={
        "pipeline_stages_name_key": (Code.STAGE_EXISTS, None),
        "deals_stage_fkey": (Code.STAGE_IN_USE, None),
        "stage_history_from_stage_fkey": (Code.STAGE_IN_USE, None),
        "stage_history_to_stage_fkey": (Code.STAGE_IN_USE, None),
    },
)
WEBHOOKS = Resource(model=Webhook, kind="webhook", not_found=Code.WEBHOOK_NOT_FOUND, most=50)
REPORT_SCHEDULES = Resource(
    model=ReportSchedule,
    kind="report_schedule",
    not_found=Code.REPORT_SCHEDULE_NOT_FOUND,
    owned_by=("user_id",),
    most=100,
    together=(frozenset({"every", "weekday", "day"}), frozenset({"report", "from", "to", "owner_id"})),
)
MEMBERS = Resource(
    model=Member,
    kind="member",
    not_found=Code.MEMBER_NOT_FOUND,
    title=("name", "email"),
    # Only an undo comes to the second: somebody with the email of a withdrawn invitation is here since.
    refusals={"last_admin": (Code.LAST_ADMIN, None), "members_invited_email_key": (Code.CHANGED_SINCE, None)},
)
SETTINGS = Resource(
    model=TenantSettings,
    kind="settings",
    not_found=Code.NOT_FOUND,
    # A person's own time zone has the same constraint.
    refusals={"known_timezone": (Code.INVALID_TIMEZONE, "timezone")},
)

RESOURCES = (
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


WITH_TRASH = tuple(resource for resource in RESOURCES if resource.has_trash)


class Reference(NamedTuple):
    """A column that holds the id of a record that can be in the trash."""

    column: str
    target: Resource


def references(resource: Resource) -> Iterator[Reference]:
    """What records of this kind refer to, in the order of locking."""
    keys = resource.table.foreign_key_constraints
    for target in RESOURCES:
        for key in keys:
            if key.referred_table is target.table and target.has_trash:
                yield Reference(key.column_keys[-1], target)


# What an organization may have at most, by the name under which the database refuses more: the settings say how many.
QUOTAS = {
    "quota_records": "This organization has as many records as it may: delete some, or ask the operator",
    "quota_bytes": "The files of this organization take as much room as they may: delete some for good, or ask the"
    " operator",
    "quota_members": "This organization has as many active members as it may: deactivate one, or ask the operator",
}
REFUSALS = {constraint: refusal for resource in RESOURCES for constraint, refusal in resource.refusals.items()}


def refusal_of(constraint: str | None, detail: str | None = None) -> AppError | None:
    """What a client is told when the database refuses a write by this constraint, if there is something to tell."""
    if constraint in QUOTAS:
        return quota_exceeded(constraint, int(detail or 0))
    if constraint not in REFUSALS:
        return None
    code, name = REFUSALS[constraint]
    return bad_field(code, name) if name else AppError(code)


def quota_exceeded(constraint: str, most: int) -> AppError:
    """What a client is told who would go beyond a limit of the organization."""
    return AppError(
        Code.QUOTA_EXCEEDED, QUOTAS[constraint], data={"limit": constraint.removeprefix("quota_"), "max": most}
    )
