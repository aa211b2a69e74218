"""Shared by the console's calls: reading pages, and answering in its shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler

from app.access.permissions import Permission, Requires
from app.admin.activities.schemas import Activity
from app.admin.contacts.queries import OF_CUSTOMER
from app.admin.contacts.schemas import CustomerContactQuery
from app.admin.customers.schemas import Customer
from app.admin.http import answer, read_page
from app.admin.notes.schemas import Note
from app.console import responses
from app.console.queries import find_person, find_primary_contact
from app.console.values import shown_id
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.error_responses import as_app_error, error_response
from app.web.input import CrmRequest, input_types
from app.web.paging import ListQuery

READ, WRITE, DELETE, CONFIGURE = (
    [Requires(permission)]
    for permission in (Permission.READ, Permission.WRITE, Permission.DELETE, Permission.CONFIGURE)
)
# The console's page of deals loads this many customers into a list of choices.
MAX_PAGE_SIZE = 1000
EVERYTHING = 10**9

T = TypeVar("T")
Row = TypeVar("Row")


async def read(
    request: CrmRequest,
    tx: Transaction,
    listing: Listing[Row],
    query: ListQuery,
    show: Callable[[Row], T],
    scope: Mapping[str, Any] | None = None,
) -> Response[responses.Page[T]]:
    """One page of a list, of the console's length."""
    return await read_page(
        request,
        tx,
        listing,
        query,
        scope=scope,
        largest_page=MAX_PAGE_SIZE,
        show=show,
        envelope=responses.Page.around,
    )


async def show_contacts(request: CrmRequest, tx: Transaction, customer_id: int) -> Response[list[responses.Contact]]:
    """All contacts of a customer, the primary one first."""
    return await read_page(
        request,
        tx,
        OF_CUSTOMER,
        CustomerContactQuery(page_size=EVERYTHING),
        scope={"customer_id": [customer_id]},
        largest_page=EVERYTHING,
        show=responses.Contact.from_record,
        envelope=attrgetter("data"),
    )


def with_column(shown: Callable[..., T]) -> Callable[[tuple[Any, ...]], T]:
    """`shown` for a row of a record and one more column."""
    return lambda pair: shown(*pair)


def show(tx: Transaction, shown: T, record: Any, status: int = 200) -> Response[T]:
    """The answer for one record, with its version as ETag."""
    return answer(tx, shown, status, version=record.version)


async def show_customer(tx: Transaction, customer: Customer, status: int = 200) -> Response[responses.Customer]:
    """The answer for a customer, with its primary contact."""
    primary = await find_primary_contact(tx, customer.id)
    return show(tx, responses.Customer.from_record(customer, primary), customer, status)


def show_tags(tx: Transaction, customer: Customer) -> Response[list[responses.Tag]]:
    """The answer for a customer's tags."""
    return show(tx, [responses.Tag.copy_of(tag) for tag in customer.tags], customer)


async def show_activity(tx: Transaction, activity: Activity, status: int = 200) -> Response[responses.Activity]:
    """The answer for an activity, with its owner's name."""
    owner = None if activity.assigned_to is None else await find_person(tx, activity.assigned_to)
    return show(tx, responses.Activity.from_record(activity, owner), activity, status)


async def show_note(tx: Transaction, note: Note, status: int = 200) -> Response[responses.Note]:
    """The answer for a note, with its author's name."""
    return show(tx, responses.Note.from_record(note, await find_person(tx, note.author_id)), note, status)


def console_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The same error as under /admin, with ids as strings and the console's names of fields."""
    refusal = as_app_error(error)
    # Faults found while reading the input have the console's names already.
    names = _console_names(request.route_handler) if "inputs" in request.scope["state"] else {}
    refusal.data = _in_dialect(refusal.data, names)
    return error_response(request, refusal)


@cache
def _console_names(handler: HTTPRouteHandler) -> dict[str, str]:
    """Fields of /admin that this handler's body calls by another name."""
    form = input_types(handler).data
    if form is None or form.view is None or not issubclass(form.view, responses.ConsoleRecord):
        return {}
    return {theirs: ours for ours, theirs in form.view.names.items() if theirs not in form.__struct_fields__}


def _in_dialect(data: Any, names: Mapping[str, str]) -> Any:
    if isinstance(data, list):
        return [_in_dialect(item, names) for item in data]
    if not isinstance(data, dict):
        return data
    return {name: _shown(name, value, names) for name, value in data.items()}


def _shown(name: str, value: Any, names: Mapping[str, str]) -> Any:
    if name.endswith("_id") and isinstance(value, int):
        return shown_id(value)
    if name.endswith("_ids") and isinstance(value, list):
        return [shown_id(each) for each in value]
    if name == "field":
        return names.get(value, value)
    return _in_dialect(value, names)
