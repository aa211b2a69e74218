"""Contacts, the pipeline's stages, deals and their history, projects, activities and notes."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Imported, Mergeable, Record, UserReference, UserReferences, reference


class Contact(Record, Imported, Mergeable):
    """Somebody to talk to at a customer."""

    __tablename__ = "contacts"

    customer_id: Mapped[int] = mapped_column(BigInteger)
    first_name: Mapped[str] = mapped_column(String(100), server_default=text("''"))
    last_name: Mapped[str | None] = mapped_column(String(100))
    email: Mapped[str | None] = mapped_column(String(255))
    phone: Mapped[str | None] = mapped_column(String(50))
    position: Mapped[str | None] = mapped_column(String(100))
    is_primary: Mapped[bool] = mapped_column(server_default=text("false"))
    notes: Mapped[str | None] = mapped_column(String(10_000))
    search_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_party_text(...)"))

    __table_args__ = (
        UniqueConstraint("tenant_id", "customer_id", "id", name="contacts_customer_key"),
        reference("contacts", "customer_id", "customers"),
    )


class PipelineStage(Record):
    """A step of the tenant's pipeline."""

    __tablename__ = "pipeline_stages"

    name: Mapped[str] = mapped_column(String(50))
    display_name: Mapped[str] = mapped_column(String(100))
    order: Mapped[int] = mapped_column(Integer)
    color: Mapped[str] = mapped_column(String(7), server_default=text("'#64748b'"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    kind: Mapped[str] = mapped_column(Text, server_default=text("'open'"))
    probability: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # The built-in stage that it was at first. Only a function of the database sets it.
    origin: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        UniqueConstraint("tenant_id", "name", name="pipeline_stages_name_key"),
        ExcludeConstraint(("tenant_id", "="), ("order", "="), name="pipeline_stages_order_key", deferrable=True),
    )


class Deal(Record, Imported):
    """Something that a customer may buy."""

    __tablename__ = "deals"

    title: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(10_000))
    customer_id: Mapped[int] = mapped_column(BigInteger)
    contact_id: Mapped[int | None] = mapped_column(BigInteger)
    stage_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(Numeric(19, 4), server_default=text("0"))
    currency: Mapped[str] = mapped_column(String(3))
    probability: Mapped[int] = mapped_column(SmallInteger)
    expected_close_date: Mapped[datetime | None]
    actual_close_date: Mapped[datetime | None]
    owner_id: Mapped[int | str | None] = mapped_column(UserReference)
    lost_reason: Mapped[str | None] = mapped_column(String(255))
    stage_entered_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    title_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_fold(title)"))
    # For lists: with row-level security, conditions on a numeric can't use an index. The amount times 10,000 does
    # not fit into the positive bigints, so it is shifted to use the negative ones too.
    amount_order: Mapped[int] = mapped_column(BigInteger, Computed("(...)::bigint"))

    __table_args__ = (
        reference("deals", "customer_id", "customers"),
        ForeignKeyConstraint(
            ["tenant_id", "customer_id", "contact_id"],
            ["contacts.tenant_id", "contacts.customer_id", "contacts.id"],
            name="deals_contact_fkey",
            # A merge moves a contact, and then its deals.
            deferrable=True,
        ),
        reference("deals", "stage_id", "pipeline_stages"),
    )


class StageMove(Base):
    """How long a deal was in a stage. Only triggers write it."""

    __tablename__ = "stage_history"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    deal_id: Mapped[int] = mapped_column(BigInteger)
    from_stage_id: Mapped[int | None] = mapped_column(BigInteger)
    to_stage_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | str | None] = mapped_column(UserReference)
    user_name: Mapped[str | None] = mapped_column(Text)
    entered_at: Mapped[datetime]
    left_at: Mapped[datetime | None]
    # Why the deal was lost, if this is its present stage.
    reason: Mapped[str | None] = mapped_column(String(255))
    # About how long it took, for the funnel.
    time_bucket: Mapped[int | None] = mapped_column(Integer, Computed("floor(64 * ln(...))"))
    # Copied from the deal when the visit ends, for the funnel: when it was created, unless it is in the trash, and
    # whose it is. A trigger fills them, and corrects them whenever the deal changes.
    deal_created_at: Mapped[datetime | None] = mapped_column(Computed("the deal's created_at"))
    deal_owner_id: Mapped[str | None] = mapped_column(Text, Computed("the deal's owner_id"))

    __table_args__ = (
        reference("stage_history", "deal_id", "deals"),
        reference("stage_history", "from_stage_id", "pipeline_stages"),
        reference("stage_history", "to_stage_id", "pipeline_stages"),
    )


class Project(Record, Imported):
    """Work larger than a task: for a customer, or for the organization itself."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(String(10_000))
    status: Mapped[str] = mapped_column(Text, server_default=text("'planned'"))
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    owner_id: Mapped[int | str | None] = mapped_column(UserReference)
    assignees: Mapped[list[int | str]] = mapped_column(UserReferences, server_default=text("'{}'"))
    # Whole days.
    start_date: Mapped[datetime | None]
    due_date: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    name_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_fold(name)"))
    status_rank: Mapped[int] = mapped_column(SmallInteger, Computed("array_position(...)"))

    __table_args__ = (reference("projects", "customer_id", "customers"),)


class Activity(Record, Imported):
    """Work to do, or done."""

    __tablename__ = "activities"

    title: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(String(10_000))
    status: Mapped[str] = mapped_column(Text, server_default=text("'scheduled'"))
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    deal_id: Mapped[int | None] = mapped_column(BigInteger)
    project_id: Mapped[int | None] = mapped_column(BigInteger)
    contact_id: Mapped[int | None] = mapped_column(BigInteger)
    assigned_to: Mapped[int | str | None] = mapped_column(UserReference)
    due_date: Mapped[datetime | None]
    all_day: Mapped[bool] = mapped_column(server_default=text("false"))
    remind_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    duration: Mapped[int | None] = mapped_column(Integer)
    outcome: Mapped[str | None] = mapped_column(String(10_000))
    priority: Mapped[str] = mapped_column(Text, server_default=text("'normal'"))
    title_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_fold(title)"))
    type_rank: Mapped[int] = mapped_column(SmallInteger, Computed("array_position(...)"))
    priority_rank: Mapped[int] = mapped_column(SmallInteger, Computed("array_position(...)"))
    # Closed activities are listed by this; null while an activity is open.
    closed_at: Mapped[datetime | None] = mapped_column(Computed("CASE ... END"))

    __table_args__ = (
        reference("activities", "customer_id", "customers"),
        reference("activities", "deal_id", "deals"),
        reference("activities", "project_id", "projects"),
        reference("activities", "contact_id", "contacts"),
    )


class Note(Record, Imported):
    """What somebody wants to be remembered."""

    __tablename__ = "notes"

    content: Mapped[str] = mapped_column(String(20_000))
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    deal_id: Mapped[int | None] = mapped_column(BigInteger)
    activity_id: Mapped[int | None] = mapped_column(BigInteger)
    project_id: Mapped[int | None] = mapped_column(BigInteger)
    author_id: Mapped[int | str] = mapped_column(UserReference)
    author_name: Mapped[str | None] = mapped_column(Text)
    # Folded once: folding long texts in each search would be slow.
    content_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("left(...)"))

    __table_args__ = (
        reference("notes", "customer_id", "customers"),
        reference("notes", "deal_id", "deals"),
        reference("notes", "activity_id", "activities"),
        reference("notes", "project_id", "projects"),
    )
