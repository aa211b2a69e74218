"""How a record shows the record that it belongs to. People who see only their own records see the names of others."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Text, and_, case, func, null, select

from app.models import Contact, Customer, Deal, Project
from app.records.json_columns import JsonColumn, json_object

# With separate names, so that they are not confused with the same table in the query around.
customer = Customer.__table__.alias("its_customer").c
contact = Contact.__table__.alias("its_contact").c
deal = Deal.__table__.alias("its_deal").c
project = Project.__table__.alias("its_project").c


class CustomerBrief(Struct):
    """The customer that a record belongs to."""

    id: int
    name: str
    email: str | None
    company: str | None


class ContactBrief(Struct):
    """The contact that a record names."""

    id: int
    first_name: str
    last_name: str | None
    email: str | None
    phone: str | None


class DealBrief(Struct):
    """The deal that a record belongs to."""

    id: int
    title: str


class ProjectBrief(Struct):
    """The project that a record belongs to."""

    id: int
    name: str


def customer_of(reference: ColumnElement[Any]) -> JsonColumn:
    """The customer whose id this column holds."""
    full = json_object({name: customer[name] for name in CustomerBrief.__struct_fields__})
    name = func.crm_customer_name(reference)
    name_only = json_object({"id": reference, "name": name, "email": null(), "company": null()})
    return JsonColumn(_seen_or(full, customer.id == reference, name_only, reference), CustomerBrief | None)


def contact_of(reference: ColumnElement[Any]) -> JsonColumn:
    """The contact whose id this column holds, unless it is in the trash."""
    full = json_object({name: contact[name] for name in ContactBrief.__struct_fields__})
    same = and_(contact.id == reference, contact.deleted_at.is_(None))
    return JsonColumn(_seen_or(full, same, func.crm_contact_name(reference), reference), ContactBrief | None)


def deal_of(reference: ColumnElement[Any]) -> JsonColumn:
    """The deal whose id this column holds."""
    full = json_object({"id": deal.id, "title": deal.title})
    name_only = json_object({"id": reference, "title": func.crm_deal_title(reference)})
    return JsonColumn(_seen_or(full, deal.id == reference, name_only, reference), DealBrief | None)


def project_of(reference: ColumnElement[Any]) -> JsonColumn:
    """The project whose id this column holds."""
    full = json_object({"id": project.id, "name": project.name})
    name_only = json_object({"id": reference, "name": func.crm_project_name(reference)})
    return JsonColumn(_seen_or(full, project.id == reference, name_only, reference), ProjectBrief | None)


def _seen_or(
    full: ColumnElement[Any], same: ColumnElement[bool], name_only: ColumnElement[Any], reference: ColumnElement[Any]
) -> ColumnElement[Any]:
    seen = select(full).where(same).scalar_subquery()
    return func.coalesce(seen, case((reference.is_not(None), name_only)))


def customer_name(reference: ColumnElement[Any]) -> ColumnElement[str]:
    """The name of the customer whose id this column holds."""
    seen = select(customer.name).where(customer.id == reference).scalar_subquery()
    return func.coalesce(seen, case((reference.is_not(None), func.crm_customer_name(reference))), type_=Text)


def deal_title(reference: ColumnElement[Any]) -> ColumnElement[str]:
    """The title of the deal whose id this column holds."""
    seen = select(deal.title).where(deal.id == reference).scalar_subquery()
    return func.coalesce(seen, case((reference.is_not(None), func.crm_deal_title(reference))), type_=Text)


def project_name(reference: ColumnElement[Any]) -> ColumnElement[str]:
    """The name of the project whose id this column holds."""
    seen = select(project.name).where(project.id == reference).scalar_subquery()
    return func.coalesce(seen, case((reference.is_not(None), func.crm_project_name(reference))), type_=Text)
