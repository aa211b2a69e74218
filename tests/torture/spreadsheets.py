"""Dirty spreadsheets as people send them, and the truth about each of their rows."""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct, field

ZONE = ZoneInfo("Europe/Berlin")
WRONG, AGAIN, THERE_BEFORE, BLANK = 0.06, 0.02, 0.01, 0.005
PEOPLE = {"anna@example.com": "anna", "ben@example.com": "ben"}

# What a cell says, and what it means.
Cell = tuple[str, Any]


class Fault(NamedTuple):
    """A cell that makes its row wrong."""

    column: str
    cell: str


class Wrong(NamedTuple):
    """A row that is wrong: its cells, and the column that is to blame."""

    cells: list[str]
    column: str


class Sheet(Struct):
    """A file, and what is known of it: by its key each record that comes of it, as an export must have it; by its
    number each wrong row; and the records that are there before, as columns of the table.
    """

    kind: str
    name: str
    mapping: dict[str, str]
    options: dict[str, Any]
    content: bytes = b""
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)
    wrong: dict[int, Wrong] = field(default_factory=dict)
    before: list[dict[str, Any]] = field(default_factory=list)

    @property
    def outcomes(self) -> Counter[str]:
        """What the check must say."""
        updated = len(self.before)
        return Counter(create=len(self.expected) - updated, update=updated, error=len(self.wrong))


class _Writer:
    """Writes rows, and notes what each of them comes to."""

    def __init__(self, sheet: Sheet, rows: int, delimiter: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self._sheet = sheet
        self._text = io.StringIO()
        self._csv = csv.writer(self._text, delimiter=delimiter, lineterminator="\r\n")
        self._header = [*sheet.mapping, "Intern"]
        self._csv.writerow(self._header)
        self._rows = rows
        self._number, self._written = 1, 0
        # Rows that come once more, further down.
        self._again: list[Wrong] = []

    @property
    def is_full(self) -> bool:
        return self._written + len(self._again) >= self._rows

    def write(self, cells: dict[str, str], wrong: str | None = None) -> None:
        row = [cells.get(name, "") for name in self._header]
        self._put(row)
        if wrong is not None:
            self._sheet.wrong[self._number] = Wrong(row, wrong)
        elif self.chance.random() < AGAIN:
            self._again.append(Wrong(row, self._header[0]))
        if self.chance.random() < BLANK:
            self._number += 1
            self._csv.writerow([self.chance.choice(("", " "))] * len(row))

    def _put(self, row: list[str]) -> None:
        self._csv.writerow(row)
        self._number += 1
        self._written += 1

    def text(self) -> str:
        self.chance.shuffle(self._again)
        for row in self._again:
            self._put(row.cells)
            self._sheet.wrong[self._number] = row
        return self._text.getvalue()


def _date(chance: random.Random) -> Cell:
    """In any form, the day first."""
    day = date(2005, 1, 1) + timedelta(chance.randrange(6500))
    written = day.strftime(chance.choice(("%d.%m.%Y", "%d/%m/%Y", "%d-%m-%y", "%d %b %Y", "%Y-%m-%d", "%A, %d %B %Y")))
    if chance.random() < 0.8:
        return written, f"{day}T00:00:00Z"
    moment = datetime(day.year, day.month, day.day, 4 + chance.randrange(20), chance.randrange(60), tzinfo=ZONE)
    return f"{day:%d.%m.%Y} {moment:%H:%M}", moment.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")


def _amount(chance: random.Random, currency: str) -> Cell:
    """With a comma before the decimals, and points, blanks or nothing between the thousands."""
    amount = Decimal(chance.randrange(1, 10**9)).scaleb(-2)
    if currency == "JPY":
        amount = amount.quantize(Decimal(1))
    elif chance.random() < 0.2:
        amount = amount.quantize(Decimal("0.1")).quantize(Decimal("0.01"))
    form = chance.choice(("{:,}", "{:,}", "{}"))
    written = form.format(amount).translate({ord(","): chance.choice((".", " ", "\N{NO-BREAK SPACE}")), ord("."): ","})
    around = chance.choice(("{}", "{}", "{} €", "EUR {}", " {} "))
    return around.format(written), amount.normalize()


COMPANIES: list[Cell] = [
    ("", None),
    ('Müller; "Söhne" GmbH', 'Müller; "Söhne" GmbH'),
    ("'=Engines", "=Engines"),
    ("''=Engines", "'=Engines"),
    ("=2+2", "=2+2"),
    ("@home", "@home"),
    ("'n Boot", "'n Boot"),
    ("-Minus, & Co. KG", "-Minus, & Co. KG"),
    ("+1", "+1"),
    ("  Købmand & Søn  ", "Købmand & Søn"),
]
PHONES: list[Cell] = [
    ("", None),
    ("030 901820", "+49 30 901820"),
    ("(030) 90 18 20", "+49 30 901820"),
    ("+44 20 7946 0000", "+44 20 7946 0000"),
    ("0049 30 901820", "0049 30 901820"),
    ("extension 12", "extension 12"),
]
STATUSES: list[Cell] = [
    ("", None),
    ("Kunde", "active"),
    ("interessent", "prospect"),
    ("CHURNED", "churned"),
    (" In-Aktiv ", "inactive"),
]
WEBSITES: list[Cell] = [
    ("", None),
    ("example.com/ä", "https://example.com/ä"),
    ("HTTP://example.com", "HTTP://example.com"),
]
FLAGS: list[Cell] = [("", None), ("ja", True), ("Nein", False), ("x", True), ("0", False)]
TAGS: list[Cell] = [
    ("", None),
    ("VIP", ["VIP"]),
    ("vip; Newsletter", ["Newsletter", "VIP"]),
    ('"Messe; Köln";Newsletter;newsletter', ["Messe; Köln", "Newsletter"]),
    (";;'=Summe;", ["'=Summe"]),
]
NOTES: list[Cell] = [
    ("", None),
    (
        "Erste Zeile\r\nZweite; mit „Anführung\" und 'so'\n\n\N{EN DASH}Ende",
        "Erste Zeile\r\nZweite; mit „Anführung\" und 'so'\n\n\N{EN DASH}Ende",
    ),
    ('=HYPERLINK("http://example.com";"hier")', '=HYPERLINK("http://example.com";"hier")'),
    ("\t  eingerückt ", "\t  eingerückt "),
]
OWNERS: list[Cell] = [("", None), ("Anna@Example.com", "anna"), ("ben@example.com", "ben")]
NAMES = (
    "Zoë Müller {}",
    "  Ærø & Søn {} ",
    "Conan O\N{RIGHT SINGLE QUOTATION MARK}Brien {}",
    "François Žižek {}",
    '"Ada" {}',
    "=Ada {}",
    "Strauß-{}",
)
CUSTOMER_FAULTS = (
    *(Fault("Name", name) for name in ("", "   ", "x" * 256)),
    *(Fault("E-Mail", email) for email in ("zoe at example", "zoe@", "@", "a" * 250 + "@example.com")),
    *(Fault("Status", status) for status in ("Unbekannt", "1")),
    *(Fault("Seit", day) for day in ("31.02.2021", "12/31/2021", "gestern", "0", "01.01.0001")),
    *(Fault("Betreuer", person) for person in ("niemand@example.com",)),
    *(Fault("Website", address) for address in ("ftp://example.com", "kein Web")),
    *(Fault("Kontaktiert", flag) for flag in ("vielleicht",)),
    *(Fault("Telefon", phone) for phone in ("0" * 51,)),
    *(Fault("Tags", tags) for tags in ("t" * 101,)),
    *(Fault("Notizen", notes) for notes in ("ü" * 10_001,)),
    *(Fault("Nr", key) for key in ("k" * 256,)),
)


def customers(rows: int) -> Sheet:
    """As Excel saves it where Windows is German: cp1252, with semicolons."""
    sheet = Sheet(
        "customers",
        "Kunden.csv",
        {
            "Nr": "external_id",
            "Name": "name",
            "E-Mail": "email",
            "Telefon": "phone",
            "Firma": "company",
            "Website": "website",
            "Status": "status",
            "Kontaktiert": "contacted",
            "Seit": "created_at",
            "Betreuer": "assigned_to",
            "Tags": "tags",
            "Notizen": "notes",
        },
        {
            "match_on": "external_id",
            "on_error": "skip",
            "date_order": "dmy",
            "timezone": str(ZONE),
            "country": "DE",
            "values": {"status": {"Kunde": "active", "Interessent": "prospect", "In-Aktiv": "inactive"}},
            "create_tags": True,
        },
    )
    writer = _Writer(sheet, rows, ";", 17)
    chance = writer.chance
    number = 0
    while not writer.is_full:
        number += 1
        key, name = f"k-{number:06}", chance.choice(NAMES).format(number)
        email: Cell = (" ", None)
        if chance.random() < 0.9:
            address = f"Zoe.{number}@Example.com"
            email = chance.choice(((address, address), (f" {address.upper()} ", address.upper())))
        made = {
            "Name": (name, name.strip()),
            "E-Mail": email,
            "Telefon": chance.choice(PHONES),
            "Firma": chance.choice(COMPANIES),
            "Website": chance.choice(WEBSITES),
            "Status": chance.choice(STATUSES),
            "Kontaktiert": chance.choice(FLAGS),
            "Seit": _date(chance),
            "Betreuer": chance.choice(OWNERS),
            "Tags": chance.choice(TAGS),
            "Notizen": chance.choice(NOTES) if number % 500 else ("ü" * 10_000, "ü" * 10_000),
        }
        cells = {"Nr": key, "Intern": "egal"} | {column: cell for column, (cell, _) in made.items()}
        if chance.random() < WRONG:
            fault = chance.choice(CUSTOMER_FAULTS)
            writer.write(cells | {fault.column: fault.cell}, wrong=fault.column)
            continue
        meant = {sheet.mapping[column]: value for column, (_, value) in made.items() if value is not None}
        start = {"status": "lead", "contacted": False, "tags": []}
        if chance.random() < THERE_BEFORE:
            old = {"external_id": key, "name": f"Old {number}", "notes": "Noted before", "status": "inactive"}
            old |= {"email": f"old.{number}@example.com", "created_at": "2001-02-03T04:05:06Z"}
            sheet.before.append(old)
            # When it was made is no part of a change.
            start |= old
            del meant["created_at"]
        sheet.expected[key] = dict.fromkeys(sheet.mapping.values()) | start | meant | {"external_id": key}
        writer.write(cells)
        if email[1] and chance.random() < AGAIN:
            writer.write(cells | {"Nr": f"{key}-again", "E-Mail": email[1].swapcase()}, wrong="E-Mail")
    sheet.content = writer.text().encode("cp1252")
    return sheet


STAGES: list[Cell] = [
    ("", "prospecting"),
    ("Angebot", "proposal"),
    ("qualification", "qualification"),
    ("Gewonnen", "closed_won"),
    (" verloren ", "closed_lost"),
]
DEAL_FAULTS = (
    *(Fault("Titel", title) for title in ("", "x" * 256)),
    *(Fault("Kunde", customer) for customer in ("Niemand & Co", "", "999999999")),
    *(Fault("Betrag", amount) for amount in ("viel", "-5,00", "(1,50)", "1,2,3", "1.2345,00", "0,001", "1e9")),
    *(Fault("Währung", currency) for currency in ("ZZZ", "€")),
    *(Fault("Phase", stage) for stage in ("Irgendwo",)),
    *(Fault("Abschluss am", day) for day in ("31.11.2021", "Q3")),
    *(Fault("Verantwortlich", person) for person in ("niemand@example.com",)),
    *(Fault("Beschreibung", text) for text in ("\N{EN DASH}" * 10_001,)),
)


def deals(rows: int, of: Sheet) -> Sheet:
    """As a program saves it: UTF-8 with its mark. Each is of a customer of another sheet, who is named in any way."""
    sheet = Sheet(
        "deals",
        "Chancen.csv",
        {
            "ID": "external_id",
            "Titel": "title",
            "Kunde": "customer",
            "Betrag": "amount",
            "Währung": "currency",
            "Phase": "stage",
            "Abschluss am": "expected_close_date",
            "Verantwortlich": "owner_id",
            "Beschreibung": "description",
        },
        {
            "match_on": "external_id",
            "on_error": "skip",
            "date_order": "dmy",
            "decimal": ",",
            "timezone": str(ZONE),
            "values": {"stage": {"Angebot": "proposal", "gewonnen": "closed_won", "Verloren": "closed_lost"}},
            "owner_id": "anna@example.com",
        },
    )
    writer = _Writer(sheet, rows, ",", 18)
    chance = writer.chance
    there = list(of.expected.values())
    ways: tuple[Callable[[dict[str, Any]], str], ...] = (
        lambda customer: str(customer["external_id"]),
        lambda customer: f" {customer['name'].lower()} ",
        lambda customer: str((customer["email"] and customer["email"].swapcase()) or customer["external_id"]),
    )
    number = 0
    while not writer.is_full:
        number += 1
        key, customer, currency = f"d/{number:05}", chance.choice(there), chance.choice(("EUR", "EUR", "USD", "JPY"))
        made: dict[str, Cell] = {
            "Titel": (f"{number}. Auftrag, „groß“ 🚲", f"{number}. Auftrag, „groß“ 🚲"),
            "Kunde": (chance.choice(ways)(customer), customer["name"]),
            "Betrag": _amount(chance, currency),
            "Währung": (currency, currency),
            "Phase": chance.choice(STAGES),
            "Abschluss am": chance.choice((("", None), _date(chance))),
            "Verantwortlich": chance.choice((("", "anna"), ("BEN@example.com", "ben"))),
            "Beschreibung": chance.choice(NOTES),
        }
        cells = {"ID": key, "Intern": "egal"} | {column: cell for column, (cell, _) in made.items()}
        if chance.random() < WRONG:
            fault = chance.choice(DEAL_FAULTS)
            writer.write(cells | {fault.column: fault.cell}, wrong=fault.column)
            continue
        sheet.expected[key] = {"external_id": key} | {sheet.mapping[name]: value for name, (_, value) in made.items()}
        writer.write(cells)
    sheet.content = writer.text().encode("utf-8-sig")
    return sheet
