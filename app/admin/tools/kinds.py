"""The kinds of record that tools know: where each is, what is written and what is asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from app.admin.activities.schemas import Activity, ActivityChange, ActivityCreate, ActivityQuery
from app.admin.contacts.schemas import Contact, ContactChange, ContactCreate, ContactQuery
from app.admin.customers.schemas import Customer, CustomerChange, CustomerCreate, CustomerDetail, CustomerQuery
from app.admin.deals.schemas import Deal, DealChange, DealCreate, DealDetail, DealQuery
from app.admin.notes.schemas import Note, NoteChange, NoteCreate, NoteQuery
from app.admin.pipeline_stages.schemas import PipelineStage, PipelineStageChange, PipelineStageCreate
from app.admin.projects.schemas import Project, ProjectChange, ProjectCreate, ProjectDetail, ProjectQuery
from app.admin.tags.schemas import Tag, TagChange, TagCreate
from app.admin.users.schemas import User, UserQuery
from app.web.paging import ListQuery
from app.web.structs import Body, View


class Readable(StrEnum):
    """What can be read alone."""

    CUSTOMER = "customer"
    CONTACT = "contact"
    DEAL = "deal"
    ACTIVITY = "activity"
    NOTE = "note"
    PROJECT = "project"
    PIPELINE_STAGE = "pipeline_stage"
    TAG = "tag"


class Listed(StrEnum):
    """What can be listed: a `user` is a person of the organization, whom records are assigned to."""

    CUSTOMER = "customer"
    CONTACT = "contact"
    DEAL = "deal"
    ACTIVITY = "activity"
    NOTE = "note"
    PROJECT = "project"
    TAG = "tag"
    PIPELINE_STAGE = "pipeline_stage"
    USER = "user"


class Trashed(StrEnum):
    """What has a trash."""

    CUSTOMER = "customer"
    CONTACT = "contact"
    DEAL = "deal"
    NOTE = "note"
    PROJECT = "project"
    ACTIVITY = "activity"


class Kind(NamedTuple):
    """One of them. `collection` is its address, and `made_at` the one where new ones are made: with a field of the new
    record in it. A short list is always whole, and then takes no query.
    """

    collection: str
    view: type[View]
    detail: type[View]
    query: type[ListQuery] | None = None
    create: type[Body] | None = None
    change: type[Body] | None = None
    made_at: str | None = None


KINDS = {
    Listed.CUSTOMER: Kind("/admin/customers", Customer, CustomerDetail, CustomerQuery, CustomerCreate, CustomerChange),
    Listed.CONTACT: Kind(
        "/admin/contacts",
        Contact,
        Contact,
        ContactQuery,
        ContactCreate,
        ContactChange,
        made_at="/admin/customers/{customer_id}/contacts",
    ),
    Listed.DEAL: Kind("/admin/deals", Deal, DealDetail, DealQuery, DealCreate, DealChange),
    Listed.ACTIVITY: Kind("/admin/activities", Activity, Activity, ActivityQuery, ActivityCreate, ActivityChange),
    Listed.NOTE: Kind("/admin/notes", Note, Note, NoteQuery, NoteCreate, NoteChange),
    Listed.PROJECT: Kind("/admin/projects", Project, ProjectDetail, ProjectQuery, ProjectCreate, ProjectChange),
    Listed.TAG: Kind("/admin/tags", Tag, Tag, None, TagCreate, TagChange),
    Listed.PIPELINE_STAGE: Kind(
        "/admin/pipeline-stages", PipelineStage, PipelineStage, None, PipelineStageCreate, PipelineStageChange
    ),
    Listed.USER: Kind("/admin/users", User, User, UserQuery),
}


def kind_of(name: str) -> Kind:
    """The kind with this name."""
    return KINDS[Listed(name)]
