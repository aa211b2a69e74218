"""What the cells of a row mean, and which field a column is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import UNSET
from msgspec.structs import fields

from app.admin.imports.columns import NAMES, guess
from app.admin.imports.dates import DateOrder
from app.admin.imports.fields import fields_of
from app.admin.imports.kinds import KINDS
from app.admin.imports.schemas import ImportKind
from app.admin.imports.values import Manner, plan_of, read_row
from app.files.unpacked import Column
from app.web.errors import AppError
from app.web.input import read_again

UTC = Manner(ZoneInfo("UTC"))


def row(kind: str, cells: dict[str, str | None], **manner: Any) -> tuple[dict[str, Any], list[str]]:
    """The row with these cells, by their fields."""
    columns = [Column(f"The {field}") for field in cells]
    mapping: dict[str, str | None] = {f"The {field}": field for field in cells}
    plan = plan_of(ImportKind(kind), columns, mapping, UTC._replace(**manner))
    document, problems = read_row(list(cells.values()), plan)
    return document, [f"{problem.field} {problem.message}" for problem in problems]


def value(kind: str, field: str, cell: str, **manner: Any) -> Any:
    document, problems = row(kind, {field: cell}, **manner)
    return problems[0] if problems else document.get(field, UNSET)


@pytest.mark.parametrize("kind", ImportKind)
def test_every_field_of_a_body_can_be_imported_and_has_names(kind: ImportKind) -> None:
    body = {field.encode_name for field in fields(KINDS[kind].create)}
    assert body < fields_of(kind).keys()
    assert NAMES[kind].keys() <= fields_of(kind).keys()
    # As our own exports name them.
    for column in guess(kind, [Column(name) for name in fields_of(kind)]):
        assert (column.field, column.confidence) == (column.name, 1.0)


def test_the_id_of_another_system_is_no_id_of_ours() -> None:
    assert [column.field for column in guess(ImportKind.CUSTOMERS, [Column("Id"), Column("Name")])] == [
        "external_id",
        "name",
    ]


EXPORTS = {
    "HubSpot companies": (
        "customers",
        (
            "Record ID=external_id, Company name=name, Company owner=assigned_to, Create Date=created_at, Phone "
            "Number=phone, City=, Industry=industry, Website URL=website, Lead Status=status"
        ),
    ),
    "HubSpot contacts": (
        "contacts",
        (
            "Record ID=external_id, First Name=first_name, Last Name=last_name, Email=email, Phone Number=phone, "
            "Job Title=position, Associated Company=customer, Contact owner=, Create Date=created_at"
        ),
    ),
    "HubSpot deals": (
        "deals",
        (
            "Record ID=external_id, Deal Name=title, Deal Stage=stage, Close Date=expected_close_date, Deal "
            "owner=owner_id, Amount=amount, Pipeline=, Currency=currency, Associated Company=customer, Closed "
            "Lost Reason=lost_reason"
        ),
    ),
    "Salesforce accounts by key": (
        "customers",
        (
            "Id=external_id, Name=name, Phone=phone, Website=website, Industry=industry, OwnerId=assigned_to, "
            "Description=notes, CreatedDate=created_at"
        ),
    ),
    "Salesforce leads": (
        "customers",
        (
            "Lead ID=external_id, First Name=first_name, Last Name=last_name, Company / Account=company, "
            "Title=role, Email=email, Phone=phone, Lead Status=status, Lead Owner=assigned_to, Rating="
        ),
    ),
    "Salesforce opportunities": (
        "deals",
        (
            "Opportunity Name=title, Account Name=customer, Stage=stage, Amount=amount, Close "
            "Date=expected_close_date, Probability (%)=probability, Opportunity Owner=owner_id"
        ),
    ),
    "Salesforce opportunities by key": (
        "deals",
        (
            "Name=title, StageName=stage, CloseDate=expected_close_date, Amount=amount, CurrencyIsoCode=currency, "
            "Account.Name=customer"
        ),
    ),
    "Salesforce tasks": (
        "activities",
        (
            "Subject=title, Due Date=due_date, Status=status, Priority=priority, Assigned=assigned_to, "
            "Comments=description"
        ),
    ),
    "Pipedrive people": (
        "contacts",
        (
            "Person - ID=external_id, Person - Name=name, Person - Email - Work=email, Person - Phone - "
            "Work=phone, Person - Organization=customer, Person - Person created=created_at"
        ),
    ),
    "Pipedrive deals": (
        "deals",
        (
            "Deal - ID=external_id, Deal - Title=title, Deal - Value=amount, Deal - Currency of Value=currency, "
            "Deal - Stage=stage, Deal - Owner=owner_id, Deal - Organization=customer, Deal - Contact "
            "person=contact, Deal - Expected close date=expected_close_date, Deal - Lost reason=lost_reason"
        ),
    ),
    "Pipedrive activities": (
        "activities",
        (
            "Activity - Subject=title, Activity - Type=type, Activity - Due date=due_date, Activity - "
            "Note=description, Activity - Deal=deal, Activity - Organization=customer, Activity - Assigned to "
            "user=assigned_to"
        ),
    ),
    "Zoho deals": (
        "deals",
        (
            "Record Id=external_id, Deal Owner=owner_id, Amount=amount, Deal Name=title, Closing "
            "Date=expected_close_date, Account Name=customer, Stage=stage, Contact Name=contact, Reason For "
            "Loss=lost_reason"
        ),
    ),
    "Zoho notes": (
        "notes",
        "Record Id=external_id, Note Title=, Note Content=content, Parent Name=customer",
    ),
    "Google Contacts": (
        "contacts",
        (
            "First Name=first_name, Middle Name=, Last Name=last_name, Organization Name=customer, Organization "
            "Title=position, Notes=notes, E-mail 1 - Value=email, E-mail 2 - Value=, Phone 1 - Value=phone"
        ),
    ),
    "Outlook": (
        "contacts",
        (
            "First Name=first_name, Last Name=last_name, Company=customer, Job Title=position, E-mail "
            "Address=email, Business Phone=phone, Mobile Phone=, Notes=notes"
        ),
    ),
    "vCard": (
        "contacts",
        (
            "Prefix=, First Name=first_name, Last Name=last_name, Full Name=name, Organization=customer, Job "
            "Title=position, Email=email, Email 2=, Phone=phone, Notes=notes, UID=external_id"
        ),
    ),
    "a spreadsheet of people": (
        "customers",
        (
            "Name=name, Company=company, E-Mail=email, Tel.=phone, Position=role, Next follow "
            "up=next_follow_up_at, Tags=tags, Comment=notes"
        ),
    ),
    "a spreadsheet of companies": (
        "customers",
        "Company=name, Web site=website, Sector=industry, Account manager=assigned_to",
    ),
}


@pytest.mark.parametrize("export", EXPORTS)
def test_the_columns_of_a_usual_export_are_known(export: str) -> None:
    kind, columns = EXPORTS[export]
    expected = dict(column.rsplit("=", 1) for column in columns.split(", "))
    found = guess(ImportKind(kind), [Column(name) for name in expected])
    assert {column.name: column.field or "" for column in found} == expected


def test_a_column_without_a_known_name_is_guessed_by_its_cells_with_less_confidence() -> None:
    columns = [Column("Kontakt", looks_like="email"), Column("Email"), Column("Durchwahl", looks_like="phone")]
    found = guess(ImportKind.CUSTOMERS, columns)
    assert [(column.field, column.confidence) for column in found] == [(None, 0.0), ("email", 1.0), ("phone", 0.4)]


@pytest.mark.parametrize(
    ("cell", "manner", "meant"),
    [
        ("1500", {}, Decimal(1500)),
        ("1,234.50", {}, Decimal("1234.50")),
        ("$1,234.50", {}, Decimal("1234.50")),
        ("USD 1 234.50", {}, Decimal("1234.50")),
        ("1'234.50 CHF", {}, Decimal("1234.50")),
        ("1.234,50 €", {"decimal": ","}, Decimal("1234.50")),
        ("1 234,50", {"decimal": ","}, Decimal("1234.50")),
        ("1.234", {"decimal": ","}, Decimal(1234)),
        (".5", {}, Decimal("0.5")),
        ("(100)", {}, Decimal(-100)),
        ("-1,000", {}, Decimal(-1000)),
        ("100-", {}, Decimal(-100)),
    ],
)
def test_a_number_is_read_as_it_was_meant(cell: str, manner: dict[str, Any], meant: Decimal) -> None:
    assert value("deals", "amount", cell, **manner) == meant


@pytest.mark.parametrize("cell", ["1,5", "1.234,50", "12,34,567", "1.2.3", "abc", "1e5", "", "€", "--1"])
def test_what_may_be_another_number_is_no_number(cell: str) -> None:
    said = value("deals", "amount", cell)
    assert said is UNSET if not cell else "amount must be a number" in said


@pytest.mark.parametrize(
    ("field", "cell", "meant"),
    [
        ("status", "Active", "active"),
        ("status", "gone", "gone"),
        ("contacted", "Yes", True),
        ("contacted", "0", False),
        ("contacted", "maybe", "contacted must be yes or no, true or false, 1 or 0"),
        ("website", "example.com/x", "https://example.com/x"),
        ("website", "http://example.com", "http://example.com"),
        ("website", "a b", "a b"),
        ("notes", " a\r\nb", " a\r\nb"),
        ("contact_preferences", '{"a": 1}', {"a": 1}),
        ("contact_preferences", "[1]", "contact_preferences must be a JSON object"),
        ("tags", 'VIP; "a;b" ;Old;;VIP', ["VIP", "a;b", "Old"]),
        ("tags", "Friends ::: * myContacts", ["Friends"]),
        ("id", "12", 12),
        ("id", "1.5", "id must be a whole number"),
        ("name", "  ", UNSET),
        ("assigned_to", " 42 ", "42"),
    ],
)
def test_a_cell_of_a_customer_is_read_as_it_was_meant(field: str, cell: str, meant: Any) -> None:
    assert value("customers", field, cell) == meant


@pytest.mark.parametrize(
    ("cell", "country", "meant"),
    [
        ("030 123456", "DE", "+49 30 123456"),
        ("030 123456", None, "030 123456"),
        ("+44 20 7946 0000", "DE", "+44 20 7946 0000"),
        ("0044 20 7946 0000", "DE", "0044 20 7946 0000"),
        ("ask Ada", "DE", "ask Ada"),
        ("extension 12", "DE", "extension 12"),
        ("12", "DE", "12"),
        ("030 123456, ask Ada", "DE", "030 123456, ask Ada"),
        ("(415) 555-2671", "US", "+1 415-555-2671"),
    ],
)
def test_a_phone_number_gets_the_code_of_the_country(cell: str, country: str | None, meant: str) -> None:
    assert value("customers", "phone", cell, country=country) == meant


def test_a_table_of_values_says_what_some_mean() -> None:
    values = {"stage": {"Proposal Sent": "proposal", "Lost": None}, "probability": {"high": "80"}}
    assert value("deals", "stage", "proposal  sent", values=values) == "proposal"
    assert value("deals", "stage", "Other", values=values) == "Other"
    assert value("deals", "stage", "Lost", values=values) is UNSET
    assert value("deals", "probability", "high", values=values) == 80
    assert value("deals", "probability", "50%", values=values) == 50
    labels = {"tags": {"Key account": "VIP; 1", "Old": "VIP; 1"}}
    assert value("customers", "tags", "key account; New; Old", values=labels) == ["VIP; 1", "New"]


def test_names_are_joined_or_parted_where_the_record_has_them_otherwise() -> None:
    assert row("customers", {"first_name": "Ada", "last_name": "Lovelace"})[0] == {"name": "Ada Lovelace"}
    assert row("customers", {"first_name": "Ada", "name": "The Countess"})[0] == {"name": "The Countess"}
    for whole in ("Ada King Lovelace", "Lovelace, Ada King"):
        assert row("contacts", {"name": whole})[0] == {"first_name": "Ada King", "last_name": "Lovelace"}
    assert row("contacts", {"name": "Madonna"})[0] == {"first_name": "Madonna"}
    assert row("contacts", {"name": "X Y", "last_name": "Z"})[0] == {"last_name": "Z"}


def test_what_was_read_is_a_body_of_the_api() -> None:
    cells: dict[str, str | None] = {
        "title": "Engine",
        "amount": "1.234,50 €",
        "expected_close_date": "31.01.2026",
        "probability": "50 %",
        "created_at": "2026-01-05 09:30",
    }
    document, problems = row("deals", cells, decimal=",", date_order=DateOrder.DMY, zone=ZoneInfo("Europe/Berlin"))
    assert problems == []
    body = read_again(document | {"customer_id": 1}, KINDS[ImportKind.DEALS].create)
    assert (body.amount, body.probability, body.created_at.isoformat()) == (
        Decimal("1234.50"),
        50,
        "2026-01-05T08:30:00+00:00",
    )


def test_a_short_row_and_problems_of_several_cells() -> None:
    columns = [Column("A"), Column("B"), Column("C")]
    plan = plan_of(ImportKind.DEALS, columns, {"A": "amount", "B": "created_at", "C": None}, UTC)
    assert read_row(["x"], plan)[1][0].column == "A"
    assert [problem.value for problem in read_row(["x", "y", "z"], plan)[1]] == ["x", "y"]


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        ({"A": "colour"}, "mapping.A"),
        ({"D": "name"}, "mapping.D"),
        ({"A": "name", "B": "name"}, "mapping.B"),
        ({"A": None}, "mapping"),
        ({}, "mapping"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(mapping: dict[str, str | None], field: str) -> None:
    with pytest.raises(AppError) as refused:
        plan_of(ImportKind.CUSTOMERS, [Column("A"), Column("B")], mapping, UTC)
    assert refused.value.data["fields"][0]["field"] == field


def test_dates_that_prove_no_order_are_asked_about_with_examples() -> None:
    unclear, proving = Column("Due", unclear=["02/03/2026"]), Column("Made", orders=["dmy"])
    mapping: dict[str, str | None] = {"Due": "due_date"}
    with pytest.raises(AppError) as refused:
        plan_of(ImportKind.ACTIVITIES, [unclear, proving], mapping, UTC)
    assert (refused.value.code.name, refused.value.data) == (
        "AMBIGUOUS_DATES",
        {"examples": [{"column": "Due", "value": "02/03/2026"}]},
    )
    plan = plan_of(ImportKind.ACTIVITIES, [unclear, proving], mapping | {"Made": "created_at"}, UTC)
    assert read_row(["02/03/2026"], plan)[0] == {"due_date": "2026-03-02"}
    # A column that is not imported proves and asks nothing.
    assert plan_of(ImportKind.ACTIVITIES, [unclear, Column("T")], {"T": "title"}, UTC)
