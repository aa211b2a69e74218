"""The console's calls about customers, their contacts and tags."""

from __future__ import annotations

from litestar import Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.admin.contacts import service as contacts
from app.admin.contacts.queries import CONTACTS
from app.admin.contacts.schemas import ContactChange, ContactCreate
from app.admin.customers import service as customers
from app.admin.customers.queries import CUSTOMERS
from app.admin.customers.schemas import CustomerChange, CustomerCreate
from app.admin.http import answer, message, transaction
from app.admin.notes.schemas import NestedNoteQuery
from app.admin.tags import service as tags
from app.admin.tags.queries import TAGS
from app.admin.tags.schemas import TagChange, TagCreate
from app.console import requests, responses
from app.console.http import (
    CONFIGURE,
    DELETE,
    READ,
    WRITE,
    read,
    show,
    show_contacts,
    show_customer,
    show_tags,
    with_column,
)
from app.console.queries import CUSTOMERS_WITH_PRIMARY_CONTACT, NOTES_WITH_AUTHOR
from app.web.input import CrmRequest
from app.web.structs import Message, RecordId

# ── customers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/customers", guards=READ)
async def list_customers(
    request: CrmRequest, filters: NamedDependency[requests.CustomerFilters]
) -> Response[responses.Page[responses.Customer]]:
    """Customers, newest first. `owner_id` filters by assigned_to, `tag_id` by tags."""
    async with transaction(request) as tx:
        shown = with_column(responses.Customer.from_record)
        return await read(request, tx, CUSTOMERS_WITH_PRIMARY_CONTACT, filters.query(), shown)


@post("/customers", guards=WRITE)
async def create_customer(
    request: CrmRequest, data: JSONBody[requests.NewCustomerForm]
) -> Response[responses.Customer]:
    """Create a customer."""
    async with transaction(request) as tx:
        return await show_customer(tx, await customers.create(tx, data.read_as(CustomerCreate)), 201)


@get("/customers/{customer_id:str}", guards=READ)
async def get_customer(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[responses.Customer]:
    """One customer."""
    async with transaction(request) as tx:
        return await show_customer(tx, await CUSTOMERS.get(tx, customer_id))


@put("/customers/{customer_id:str}", guards=WRITE)
async def change_customer(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[requests.CustomerForm]
) -> Response[responses.Customer]:
    """Change the fields that differ from what was shown."""
    async with transaction(request) as tx:
        shown = responses.Customer.from_record(await CUSTOMERS.get(tx, customer_id), None)
        return await show_customer(tx, await customers.change(tx, customer_id, data.read_as(CustomerChange, shown)))


@delete("/customers/{customer_id:str}", guards=DELETE, status_code=200)
async def delete_customer(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[Message]:
    """Put a customer into the trash, with everything that belongs to it."""
    async with transaction(request) as tx:
        await CUSTOMERS.trash(tx, customer_id)
        return message(tx, "Customer deleted successfully")


@get("/customers/{customer_id:str}/contacts", guards=READ)
async def list_customer_contacts(
    request: CrmRequest, customer_id: FromPath[RecordId]
) -> Response[list[responses.Contact]]:
    """All contacts of a customer, the primary one first."""
    async with transaction(request) as tx:
        await CUSTOMERS.ensure_exists(tx, customer_id)
        return await show_contacts(request, tx, customer_id)


@post("/customers/{customer_id:str}/contacts", guards=WRITE)
async def create_contact(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[requests.NewContactForm]
) -> Response[responses.Contact]:
    """Add a contact to a customer; `name` is split at its last blank."""
    async with transaction(request) as tx:
        contact = await contacts.create(tx, customer_id, data.read_as(ContactCreate))
        return show(tx, responses.Contact.from_record(contact), contact, 201)


@get("/customers/{customer_id:str}/tags", guards=READ)
async def list_customer_tags(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[list[responses.Tag]]:
    """A customer's tags, by name."""
    async with transaction(request) as tx:
        return show_tags(tx, await CUSTOMERS.get(tx, customer_id))


@post("/customers/{customer_id:str}/tags", guards=WRITE, status_code=200)
async def add_customer_tags(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[requests.TagIds]
) -> Response[list[responses.Tag]]:
    """Add tags to a customer. Answers all of its tags."""
    async with transaction(request) as tx:
        await customers.add_tags(tx, customer_id, map(int, data.tag_ids))
        return show_tags(tx, await CUSTOMERS.get(tx, customer_id))


@delete("/customers/{customer_id:str}/tags/{tag_id:str}", guards=WRITE, status_code=200)
async def remove_customer_tag(
    request: CrmRequest, customer_id: FromPath[RecordId], tag_id: FromPath[RecordId]
) -> Response[Message]:
    """Take one tag off a customer."""
    async with transaction(request) as tx:
        await customers.remove_tags(tx, customer_id, [tag_id])
        return message(tx, "Tag removed successfully")


@get("/customers/{customer_id:str}/notes", guards=READ)
async def list_customer_notes(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[requests.NoteFilters]
) -> Response[responses.Page[responses.Note]]:
    """A customer's notes, newest first."""
    async with transaction(request) as tx:
        await CUSTOMERS.ensure_exists(tx, customer_id)
        scope = {"customer_id": [customer_id]}
        query = filters.read_as(NestedNoteQuery)
        return await read(request, tx, NOTES_WITH_AUTHOR, query, with_column(responses.Note.from_record), scope)


# ── contacts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/contacts/{contact_id:str}", guards=READ)
async def get_contact(request: CrmRequest, contact_id: FromPath[RecordId]) -> Response[responses.Contact]:
    """One contact."""
    async with transaction(request) as tx:
        contact = await CONTACTS.get(tx, contact_id)
        return show(tx, responses.Contact.from_record(contact), contact)


@put("/contacts/{contact_id:str}", guards=WRITE)
async def change_contact(
    request: CrmRequest, contact_id: FromPath[RecordId], data: JSONBody[requests.ContactForm]
) -> Response[responses.Contact]:
    """Change the fields that differ from what was shown."""
    async with transaction(request) as tx:
        shown = responses.Contact.from_record(await CONTACTS.get(tx, contact_id))
        contact = await contacts.change(tx, contact_id, data.read_as(ContactChange, shown))
        return show(tx, responses.Contact.from_record(contact), contact)


@delete("/contacts/{contact_id:str}", guards=DELETE, status_code=200)
async def delete_contact(request: CrmRequest, contact_id: FromPath[RecordId]) -> Response[Message]:
    """Put a contact into the trash."""
    async with transaction(request) as tx:
        await contacts.trash(tx, contact_id)
        return message(tx, "Contact deleted successfully")


@patch("/contacts/{contact_id:str}/primary", guards=WRITE)
async def make_contact_primary(request: CrmRequest, contact_id: FromPath[RecordId]) -> Response[responses.Contact]:
    """Make a contact the primary one of its customer. Takes no body."""
    async with transaction(request) as tx:
        contact = await contacts.change(tx, contact_id, ContactChange(is_primary=True))
        return show(tx, responses.Contact.from_record(contact), contact)


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/tags", guards=READ)
async def list_tags(request: CrmRequest) -> Response[list[responses.Tag]]:
    """Every tag, by name."""
    async with transaction(request) as tx:
        return answer(tx, [responses.Tag.copy_of(tag) for tag in (await tags.list_all(tx)).data])


@post("/tags", guards=CONFIGURE)
async def create_tag(request: CrmRequest, data: JSONBody[requests.NewTagForm]) -> Response[responses.Tag]:
    """Create a tag."""
    async with transaction(request) as tx:
        tag = await TAGS.create(tx, data.read_as(TagCreate).given())
        return show(tx, responses.Tag.copy_of(tag), tag, 201)


@get("/tags/{tag_id:str}", guards=READ)
async def get_tag(request: CrmRequest, tag_id: FromPath[RecordId]) -> Response[responses.Tag]:
    """One tag."""
    async with transaction(request) as tx:
        tag = await TAGS.get(tx, tag_id)
        return show(tx, responses.Tag.copy_of(tag), tag)


@put("/tags/{tag_id:str}", guards=CONFIGURE)
async def change_tag(
    request: CrmRequest, tag_id: FromPath[RecordId], data: JSONBody[requests.TagForm]
) -> Response[responses.Tag]:
    """Change the fields that are present."""
    async with transaction(request) as tx:
        tag = await TAGS.change(tx, tag_id, data.read_as(TagChange).given())
        return show(tx, responses.Tag.copy_of(tag), tag)


@delete("/tags/{tag_id:str}", guards=CONFIGURE, status_code=200)
async def delete_tag(request: CrmRequest, tag_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a tag, and take it off every customer."""
    async with transaction(request) as tx:
        await tags.remove(tx, tag_id)
        return message(tx, "Tag deleted successfully")


HANDLERS = [
    list_customers,
    create_customer,
    get_customer,
    change_customer,
    delete_customer,
    list_customer_contacts,
    create_contact,
    list_customer_tags,
    add_customer_tags,
    remove_customer_tag,
    list_customer_notes,
    get_contact,
    change_contact,
    delete_contact,
    make_contact_primary,
    list_tags,
    create_tag,
    get_tag,
    change_tag,
    delete_tag,
]
