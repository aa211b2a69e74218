"""Which records the rows of a file are about, and which they name: found by one statement for many rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, Text, any_, bindparam, func, or_, select, text, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.admin.imports.kinds import OF_MERGED, Kind
from app.admin.imports.plans import MatchOn
from app.db.statements import unprepared
from app.models import Contact, Deal, Tag, User
from app.records.resources import Resource
from app.records.transaction import Transaction
from app.web.structs import MAX_ID

SOME_ID = re.compile(r"[1-9][0-9]{0,17}")
IDS: ColumnElement[Any] = any_(bindparam("ids", type_=ARRAY(BigInteger)))
# An import fills tables that the database thinks to be small: it would read them whole for each row.
USE_INDEXES = select(func.set_config("enable_seqscan", "off", True))
user, tag = User.__table__.c, Tag.__table__.c
TERMS: ColumnElement[Any] = any_(bindparam("terms", type_=ARRAY(Text)))
LOWER: ColumnElement[Any] = any_(bindparam("lower", type_=ARRAY(Text)))
FOLDED: ColumnElement[Any] = any_(bindparam("folded", type_=ARRAY(Text)))
PEOPLE = (
    select(user.id, func.lower(user.email), func.crm_fold(user.name))
    .where(
        or_(type_coerce(user.id, Text) == TERMS, func.lower(user.email) == LOWER, func.crm_fold(user.name) == FOLDED)
    )
    .order_by(type_coerce(user.id, Text))
)
TAGS = select(tag.id, tag.name_folded)
FOLD = text("SELECT name, crm_fold(name), crm_fold_email(name) FROM unnest(CAST(:names AS text[])) AS wanted (name)")
# By way, key and id: the first way counts in which there is any.
_BY_KEY = """
    SELECT 1, external_id, id FROM {table} WHERE external_id = ANY(CAST(:terms AS text[])) AND deleted_at IS NULL
    UNION ALL {ways}
    UNION ALL
    SELECT 4, CAST(id AS text), id FROM {table} WHERE id = ANY(CAST(:ids AS bigint[])) AND deleted_at IS NULL
    ORDER BY 3
"""
_BY_TEXT = "SELECT 3, {column}, id FROM {table} WHERE {column} = ANY(CAST(:folded AS text[])) AND deleted_at IS NULL"
_BY_EMAIL = """
    SELECT 2, email_folded, id FROM customers WHERE email_folded = ANY(CAST(:emails AS text[])) AND deleted_at IS NULL
    UNION ALL
"""
# The key of a record that was merged into another one still finds that one.
_BY_MERGED = """
    SELECT 1, external_id, merged_into FROM {table}
    WHERE external_id = ANY(CAST(:terms AS text[])) AND merged_into IS NOT NULL
    UNION ALL {ways}
"""
_CUSTOMER_WAYS = _BY_MERGED.format(
    table="customers", ways=_BY_EMAIL + _BY_TEXT.format(table="customers", column="name_folded")
)
_CONTACT_WAYS = _BY_MERGED.format(
    table="contacts", ways="SELECT 2, email, id FROM crm_find_contacts(CAST(:emails AS text[]))"
)
NAMED: Mapping[str, Executable] = {
    "customer": unprepared(text(_BY_KEY.format(table="customers", ways=_CUSTOMER_WAYS))),
    "deal": unprepared(text(_BY_KEY.format(table="deals", ways=_BY_TEXT.format(table="deals", column="title_folded")))),
    "project": unprepared(
        text(_BY_KEY.format(table="projects", ways=_BY_TEXT.format(table="projects", column="name_folded")))
    ),
    "contact": unprepared(text(_BY_KEY.format(table="contacts", ways=_CONTACT_WAYS))),
}
NAMES_OF_CONTACTS = text("""
    SELECT customer_id, crm_fold(concat_ws(' ', nullif(first_name, ''), last_name)), id FROM contacts
    WHERE customer_id = ANY(CAST(:ids AS bigint[])) AND deleted_at IS NULL ORDER BY id
""")
contact, deal = Contact.__table__.c, Deal.__table__.c
OF_CUSTOMERS: Mapping[str, Select[Any]] = {
    "contact_id": select(contact.id, contact.customer_id).where(contact.id == IDS),
    "deal_id": select(deal.id, deal.customer_id).where(deal.id == IDS),
}


async def people(tx: Transaction, terms: Collection[str]) -> dict[str, list[int | str]]:
    """By term the people it names, of those who were seen here: by id, e-mail address or name, the first way that finds
    any.
    """
    if not terms:
        return {}
    folded = {term: alike for term, alike, _ in await fold(tx, terms)}
    given = {"terms": sorted(terms), "lower": [term.lower() for term in terms], "folded": list(folded.values())}
    ways: tuple[dict[str, list[int | str]], ...] = ({}, {}, {})
    for person, email, name in await tx.connection.execute(PEOPLE, given):
        for way, key in zip(ways, (str(person), email, name), strict=True):
            if key is not None:
                way.setdefault(key, []).append(person)
    by_id, by_email, by_name = ways
    return {
        term: by_id.get(term) or by_email.get(term.lower()) or by_name.get(alike, []) for term, alike in folded.items()
    }


async def tags(tx: Transaction) -> dict[str, int]:
    """By name, in the form that is compared, all tags."""
    return {folded: tag_id for tag_id, folded in await tx.connection.execute(TAGS)}


async def fold(tx: Transaction, names: Collection[str]) -> Sequence[Any]:
    """Each text with the forms in which it is compared: as a name, and as an email."""
    return (await tx.connection.execute(FOLD, {"names": sorted(names)})).all() if names else ()


async def named(tx: Transaction, what: str, terms: Collection[str]) -> dict[str, list[int]]:
    """By term the live records that it names: by external_id, email, name or id, the first way that finds any."""
    if not terms:
        return {}
    folds = await fold(tx, terms)
    given = {
        "terms": sorted(terms),
        "folded": [alike for _, alike, _ in folds],
        "emails": [email for *_, email in folds],
        "ids": [int(term) for term in terms if SOME_ID.fullmatch(term)],
    }
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    for way, key, record_id in await tx.connection.execute(NAMED[what], given):
        found[way, key].append(record_id)
    ways = {term: ((1, term), (2, email), (3, alike), (4, term)) for term, alike, email in folds}
    return {term: next((found[key] for key in keys if key in found), []) for term, keys in ways.items()}


async def contacts_called(
    tx: Transaction, names: Collection[str], customers: Collection[Any]
) -> dict[tuple[int, str], list[int]]:
    """By customer and name its live contacts that are called so."""
    given = {"ids": sorted(each for each in customers if isinstance(each, int) and each <= MAX_ID)}
    called: dict[tuple[int, str], list[int]] = defaultdict(list)
    for customer_id, folded, contact_id in await tx.connection.execute(NAMES_OF_CONTACTS, given):
        called[customer_id, folded].append(contact_id)
    return {
        (customer_id, name): called[customer_id, alike]
        for name, alike, _ in await fold(tx, names)
        for customer_id in given["ids"]
        if (customer_id, alike) in called
    }


async def customers_of(tx: Transaction, column: str, ids: Sequence[int]) -> dict[int, int]:
    """By contact or deal its customer."""
    return dict((await tx.connection.execute(OF_CUSTOMERS[column], {"ids": ids})).all())


class Holders:
    """The live records that have some external ids and emails, as far as it matters which: where only one record may
    have them, or where they tell which record a row is about.
    """

    def __init__(self, kind: Kind, match_on: MatchOn) -> None:
        self._kind = kind
        self._match_on = match_on
        self._found: dict[str, dict[str, list[int]]] = {"external_id": {}, "email": {}}
        self._folded: dict[str, str] = {}

    async def find(self, tx: Transaction, external_ids: Collection[str], emails: Collection[str]) -> None:
        """Find those that have these. Who calls it sees all records, or else a key may be another one's."""
        kind = self._kind
        if external_ids:
            await self._find(tx, "external_id", kind.of_external_id, external_ids)
        if emails and kind.of_email is not None and (kind.email_is_key or self._match_on is MatchOn.EMAIL):
            self._folded = {value: folded for value, _, folded in await fold(tx, emails)}
            await self._find(tx, "email", kind.of_email, sorted(self._folded.values()))
        merged = OF_MERGED.get(kind.repository.resource.kind)
        left = set(external_ids) - self._found["external_id"].keys()
        if left and merged is not None and self._match_on is MatchOn.EXTERNAL_ID:
            await self._find(tx, "external_id", merged, left)

    async def _find(self, tx: Transaction, name: str, statement: Executable, keys: Collection[str]) -> None:
        for key, record_id in await tx.connection.execute(statement, {"wanted": sorted(keys)}):
            self._found[name].setdefault(key, []).append(record_id)

    def key(self, name: str, value: str) -> str:
        """The value in the form that is compared."""
        return self._folded.get(value, value) if name == "email" else value

    def of(self, name: str, value: str) -> list[int]:
        """Their ids."""
        return self._found[name].get(self.key(name, value), [])


async def live_ids(tx: Transaction, target: Resource, ids: Collection[int], *, lock: bool = False) -> set[int]:
    """Those of these records that are there, and not in the trash. Locked ones stay out of it until the transaction
    ends.
    """
    if not ids:
        return set()
    return set((await tx.connection.execute(_live(target, lock), {"ids": sorted(ids)})).scalars())


async def owned_ids(tx: Transaction, target: Resource, ids: Collection[int]) -> set[int]:
    """Those of these records that are the person's own."""
    if not ids:
        return set()
    return set((await tx.connection.execute(_owned(target), {"ids": sorted(ids)})).scalars())


@cache
def _live(target: Resource, lock: bool) -> Select[Any]:
    c = target.table.c
    live = select(c.id).where(c.id == IDS, c.deleted_at.is_(None))
    return live.order_by(c.id).with_for_update(read=True) if lock else live


@cache
def _owned(target: Resource) -> Executable:
    table = target.table.name
    return text(f"SELECT id FROM unnest(CAST(:ids AS bigint[])) AS id WHERE crm_owns('{table}', id)")  # noqa: S608 -- our own name
