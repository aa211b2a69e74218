"""How each kind of record takes part in the search over everything. The order decides between equals."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, any_, case, func, literal_column, null, or_, select

from app.admin.activities import queries as activities
from app.admin.contacts import queries as contacts
from app.admin.customers import queries as customers
from app.admin.deals import queries as deals
from app.admin.nested import customer_name, deal_title, project_name
from app.admin.notes import queries as notes
from app.admin.projects import queries as projects
from app.models import Activity, PipelineStage, TenantSettings
from app.records import resources
from app.records.finding import Findable

customer, contact, deal, activity, note = customers.c, contacts.c, deals.c, activities.c, notes.c
project = projects.c
stage = PipelineStage.__table__.c
other = Activity.__table__.alias("its_activity").c


def _beside(*parts: ColumnElement[str]) -> ColumnElement[str]:
    return func.nullif(func.concat_ws(literal_column("' · '"), *parts), literal_column("''"))


def _line_of(document: ColumnElement[str], number: int) -> ColumnElement[str]:
    """A field of what crm_party_text put together."""
    return func.split_part(document, literal_column(r"E'\n'"), literal_column(str(number)))


def _email(email: ColumnElement[Any]) -> ColumnElement[str]:
    """An email in either form of its domain."""
    return func.crm_party_text(null(), email, null(), null())


def _phone(phone: ColumnElement[Any]) -> ColumnElement[str]:
    """A phone number in any notation."""
    return func.crm_party_text(null(), null(), null(), phone)


_me = func.current_setting(literal_column("'crm.user'"), literal_column("true"))
_timezone = select(TenantSettings.timezone).scalar_subquery()
_due_on = func.to_char(
    func.timezone(case((activity.all_day, literal_column("'UTC'")), else_=_timezone), activity.due_date),
    literal_column("'YYYY-MM-DD'"),
)
_of_activity = select(other.title).where(other.id == note.activity_id).scalar_subquery()
_stage = select(stage.display_name).where(stage.id == deal.stage_id).scalar_subquery()

CUSTOMERS = Findable(
    resource=resources.CUSTOMERS,
    title=customer.name,
    subtitle=func.coalesce(customer.company, customer.email),
    fields={
        "name": _line_of(customer.search_folded, 1),
        "company": _line_of(customer.search_folded, 3),
        "email": _email(customer.email),
        "phone": _phone(customer.phone),
    },
    document=customer.search_folded,
    phones=True,
    is_open=customer.status.not_in([literal_column("'inactive'"), literal_column("'churned'")]),
    recent=customer.updated_at,
    name=customer.name_folded,
    own=(customer.assigned_to == _me, customer.created_at),
)
KINDS = (
    CUSTOMERS,
    Findable(
        resource=resources.CONTACTS,
        title=func.concat_ws(
            literal_column("' '"), func.nullif(contact.first_name, literal_column("''")), contact.last_name
        ),
        subtitle=customer_name(contact.customer_id),
        fields={
            "name": _line_of(contact.search_folded, 1),
            "email": _email(contact.email),
            "phone": _phone(contact.phone),
        },
        document=contact.search_folded,
        phones=True,
        recent=contact.created_at,
        own_by=(CUSTOMERS, contact.customer_id),
    ),
    Findable(
        resource=resources.DEALS,
        title=deal.title,
        subtitle=_beside(customer_name(deal.customer_id), _stage),
        fields={
            "title": func.crm_fold_search(deal.title),
            "customer": deals.CUSTOMER_FOLDED,
        },
        document=deals.DOCUMENT,
        index="deal_titles",
        owner=(CUSTOMERS, deal.customer_id),
        is_open=deals.IS_OPEN,
        recent=deal.updated_at,
        name=deal.title_folded,
        own=(deal.owner_id == _me, deal.created_at),
        own_by=(CUSTOMERS, deal.customer_id),
    ),
    Findable(
        resource=resources.PROJECTS,
        title=project.name,
        subtitle=_beside(customer_name(project.customer_id), project.status),
        fields={"name": func.crm_fold_search(project.name)},
        document=func.crm_fold_search(project.name),
        is_open=projects.IS_OPEN,
        recent=project.updated_at,
        name=project.name_folded,
        own=(or_(project.owner_id == _me, _me == any_(project.assignees)), project.updated_at),
    ),
    Findable(
        resource=resources.ACTIVITIES,
        title=activity.title,
        subtitle=_beside(
            activity.type,
            func.coalesce(
                _due_on,
                customer_name(activity.customer_id),
                deal_title(activity.deal_id),
                project_name(activity.project_id),
            ),
        ),
        fields={"title": func.crm_fold_search(activity.title)},
        document=func.crm_fold_search(activity.title),
        is_open=activities.IS_OPEN,
        recent=activity.updated_at,
        name=activity.title_folded,
        own=(activity.assigned_to == _me, activity.due_date),
    ),
    Findable(
        resource=resources.NOTES,
        title=note.content,
        is_long=True,
        subtitle=_beside(
            customer_name(note.customer_id), deal_title(note.deal_id), project_name(note.project_id), _of_activity
        ),
        fields={"content": note.content_folded},
        document=note.content_folded,
        recent=note.created_at,
        own=(note.author_id == _me, note.created_at),
    ),
)
