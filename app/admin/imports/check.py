"""The check of an import: what its run would do with each row, by the rules and in the words of requests. It writes
nothing but that.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct, convert, json, to_builtins
from sqlalchemy import text

from app.access.permissions import Permission
from app.admin.customers.schemas import CustomerCreate
from app.admin.imports import matching
from app.admin.imports.fields import NAMED
from app.admin.imports.kinds import KINDS, OWNERS, PEOPLE, Batch, Kind
from app.admin.imports.plans import ImportPlan, MatchOn, OnMatch, Options
from app.admin.imports.schemas import ImportKind
from app.admin.imports.values import LONGEST_SHOWN, ColumnPlan, Manner, Plan, Problem, plan_of, read_row
from app.admin.tags.schemas import TagCreate
from app.db.result import RowMapping
from app.files.rows import Row, read_rows
from app.files.unpacked import Column
from app.jobs.queue import Job, Step, Work, longer_statements
from app.records import history
from app.records.repository import differing
from app.records.resources import ACTIVITIES, CONTACTS, CUSTOMERS, DEALS, Resource, references
from app.records.transaction import Transaction
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.web import strict_json
from app.web.errors import AppError, Code
from app.web.fields import Refused
from app.web.input import read_again
from app.web.strict_json import printable
from app.web.structs import MAX_ID, Body
from app.web.text import trimmed

# A step takes about a second, and so many rows are in memory.
ROWS = 1000
MOST_NAMED = 5
# A name is in several columns, or in one.
PARTS = ("first_name", "last_name", "name")
# In place of the id of a customer that is made when the row is stored.
NEW_CUSTOMER_ID = MAX_ID
NEW_CUSTOMER, NEW_TAGS = "new_customer", "new_tags"
# What other fields may be depends on these: where one is wrong, nothing is said of the others.
DECISIVE = ("stage", "status", "currency")
# What the CMS has as people's ids: somebody may have one who was not here yet. A name is no id.
SOME_PERSON = re.compile(r"[1-9][0-9]{0,14}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TAKE_OVERDUE = "the option take_overdue takes tasks that are overdue"
NOBODY = "nobody here has this id, e-mail address or name: say with the option values whom it means"
UNCHANGED, ERROR, SKIP, CREATE, UPDATE = "unchanged", "error", "skip", "create", "update"

STORE = text("""
    INSERT INTO import_rows (tenant_id, import_id, number, outcome, record_id, version, document, before, problems,
        keys)
    SELECT current_setting('crm.tenant'), :import_id, number, outcome, record_id, version, document, before, problems,
        keys
    FROM json_to_recordset(CAST(:rows AS json)) AS found (number integer, outcome text, record_id bigint,
        version integer, document jsonb, before jsonb, problems jsonb, keys text[])
""")
FORGET = text("DELETE FROM import_rows WHERE import_id = :import_id AND number BETWEEN :first AND :last")
# A key that an earlier row has makes a row wrong.
FIND_CLASHES = text("""
    UPDATE import_rows AS mine SET outcome = 'error', document = NULL, before = NULL, version = NULL,
        problems = clash.problems
    FROM (
        SELECT number, jsonb_agg(jsonb_build_object('column', CAST(:columns AS jsonb) -> field, 'field', field,
            'value', coalesce(document ->> field, value), 'message', CASE field
                WHEN 'id' THEN 'is the record that row ' || earlier || ' is about'
                WHEN 'is_primary' THEN 'is what the contact of row ' || earlier || ' is for this customer'
                ELSE 'is the same as in row ' || earlier END) ORDER BY field) AS problems
        FROM (
            SELECT number, earlier, split_part(key, ':', 1) AS field, substr(key, strpos(key, ':') + 1) AS value
            FROM crm_import_clashes(:import_id)
        ) AS found JOIN import_rows USING (number) WHERE import_id = :import_id GROUP BY number
    ) AS clash WHERE mine.import_id = :import_id AND mine.number = clash.number
""")
SUMMARY = text("""
    SELECT outcome, count(*), count(*) FILTER (WHERE problems IS NOT NULL) FROM import_rows
    WHERE import_id = :import_id GROUP BY outcome
""")
CHECKED = text("""
    UPDATE imports SET status = 'checked', summary = CAST(:summary AS jsonb), updated_at = now() WHERE id = :import_id
""")

# A BareDate is a time of its own type.
_encode = json.Encoder(decimal_format="number", enc_hook=datetime.isoformat).encode


class CheckWanted(Struct):
    """What the job of a check has to know. Where the person named no timezone or country, the plan has those of the
    organization's settings.
    """

    import_id: int
    kind: ImportKind
    object_key: str
    columns: list[Column]
    plan: dict[str, Any]

    def reading(self, plan: ImportPlan) -> Plan:
        """How the rows are read. Raises AppError INVALID_REQUEST, or AMBIGUOUS_DATES."""
        said = plan.chosen
        manner = Manner(ZoneInfo(said.timezone), said.date_order, said.decimal, said.country, said.values)
        return plan_of(self.kind, self.columns, plan.mapping, manner)


class Summary(Struct):
    """What the run of an import does with its rows. `warning` counts those with a remark that are not wrong."""

    create: int = 0
    update: int = 0
    unchanged: int = 0
    skip: int = 0
    error: int = 0
    warning: int = 0


class Checked(Struct):
    """What the job of a check comes to."""

    import_id: int
    summary: Summary


class _Progress(Struct):
    offset: int = 0
    number: int = 0


@dataclass(eq=False)
class Candidate:
    """A row that is looked at. `faults` say why it is wrong, `remarks` what a person should know of it otherwise."""

    row: Row
    document: dict[str, Any]
    faults: list[Problem]
    remarks: list[Problem] = field(default_factory=list)
    record_id: int | None = None
    # It is about a record, but which one can't be said.
    unknown: bool = False
    present: RowMapping | None = None
    outcome: str = ERROR
    # What is written: of a change, what differs.
    values: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    new_tags: list[str] = field(default_factory=list)
    new_customer: str | None = None
    keys: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether it can't be stored. The rest of it is looked at all the same, so that all its faults are told at
        once.
        """
        return bool(self.faults)

    @property
    def after(self) -> dict[str, Any]:
        """The record as it will be."""
        return dict(self.present or {}) | self.values

    def is_wrong(self, *names: str) -> bool:
        """Whether one of these fields is wrong, by its id or by its name."""
        if not self.faults:
            return False
        wrong = {_bare(fault.field) for fault in self.faults if fault.field is not None}
        return not wrong.isdisjoint(map(_bare, names))


def check_in_steps(settings: Settings, store: ObjectStore) -> Work:
    """The work of jobs that check an import."""

    async def step(tx: Transaction, job: Job) -> Step:
        tx.actor.require(Permission.WRITE)
        wanted = convert(job.arguments, CheckWanted)
        if job.done >= (job.total or 0):
            return Step(job.done, {}, to_builtins(await _finish(tx, wanted)))
        progress = convert(job.state, _Progress)
        left = (job.total or 0) - job.done
        rows, offset = await read_rows(store, wanted.object_key, progress.offset, min(ROWS, left))
        plan: ImportPlan = read_again(wanted.plan, ImportPlan)
        check = Check(Batch(tx, settings, take_overdue=plan.chosen.take_overdue), wanted, plan)
        await tx.connection.execute(matching.USE_INDEXES)
        found = await check.run(rows)
        last = rows[-1].number
        numbers = {"first": progress.number + 1, "last": last}
        await tx.connection.execute(FORGET, {"import_id": wanted.import_id} | numbers)
        given = {"import_id": wanted.import_id, "rows": _encode(found).decode()}
        await tx.connection.execute(STORE, given)
        return Step(job.done + len(rows), to_builtins(_Progress(offset, last)))

    return step


async def _finish(tx: Transaction, wanted: CheckWanted) -> Checked:
    """Find the rows that clash with others of the file, and sum up."""
    plan: ImportPlan = read_again(wanted.plan, ImportPlan)
    given = {"import_id": wanted.import_id, "columns": strict_json.encode(plan.columns).decode()}
    async with longer_statements(tx):
        await tx.connection.execute(FIND_CLASHES, given)
        counted = (await tx.connection.execute(SUMMARY, {"import_id": wanted.import_id})).all()
    summary = Summary(**{outcome: count for outcome, count, _ in counted})
    summary.warning = sum(warned for outcome, _, warned in counted if outcome != ERROR)
    done = {"import_id": wanted.import_id, "summary": strict_json.encode(summary).decode()}
    await tx.connection.execute(CHECKED, done)
    return Checked(wanted.import_id, summary)


class Check:
    """Looks at some rows, by a few statements for all of them together."""

    def __init__(self, batch: Batch, wanted: CheckWanted, plan: ImportPlan) -> None:
        self._batch = batch
        self._tx = batch.tx
        self._kind: Kind = KINDS[wanted.kind]
        self._resource: Resource = self._kind.repository.resource
        self._options: Options = plan.chosen
        self._reading = wanted.reading(plan)
        self._match_on = self._options.match_on
        self._holders = matching.Holders(self._kind, self._match_on)

    async def run(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What `import_rows` says of them."""
        candidates = await asyncio.to_thread(self._read_cells, rows)
        await self._name_tags(candidates)
        await self._name_records(candidates)
        await self._match(candidates)
        await self._name_people([each for each in candidates if each.outcome != SKIP])
        await asyncio.to_thread(self._read_bodies, candidates)
        for candidate in candidates:
            if candidate.outcome != SKIP and not candidate.unknown:
                await self._decide(candidate)
        await self._check_links(candidates)
        await self._check_owners(candidates)
        return [self._found(candidate) for candidate in candidates]

    # ── what the cells say ───────────────────────────────────────────────────────────────────────────────────────────

    def _read_cells(self, rows: Sequence[Row]) -> list[Candidate]:
        return [Candidate(row, *read_row(row.cells, self._reading)) for row in rows]

    async def _name_people(self, candidates: Sequence[Candidate]) -> None:
        """People may be named by id, e-mail address or name."""
        naming = [(each, name) for name in PEOPLE for each in candidates if each.document.get(name)]
        terms = {term for each, name in naming for term in _texts(each.document[name])}
        found = await matching.people(self._tx, terms)
        for each, name in naming:
            given = each.document[name]
            people = [self._person(each, name, term, found[term]) for term in _texts(given)]
            each.document[name] = people if isinstance(given, list) else people[0]

    def _person(self, each: Candidate, name: str, term: str, found: Sequence[int | str]) -> int | str:
        """The id of the person that a cell names. An id that the record has already stays."""
        if len(found) == 1:
            return found[0]
        if found:
            self._fault(each, name, f"several people are called so, with the ids {_some(found)}", term)
        elif each.present is None or term not in _texts(each.present[name]):
            if SOME_PERSON.fullmatch(term):
                self._remark(each, name, "nobody with this id was here yet", term)
            else:
                self._fault(each, name, NOBODY, term)
        return term

    async def _name_tags(self, candidates: Sequence[Candidate]) -> None:
        if not self._kind.tagged:
            return
        for each in candidates:
            each.document.setdefault("tags", []).extend(self._options.tags)
        named = {id(each): each.document.pop("tags") for each in candidates}
        names = {name for tags in named.values() for name in tags}
        if not names:
            return
        known = await matching.tags(self._tx)
        folded = {name: alike for name, alike, _ in await matching.fold(self._tx, names)}
        for each in candidates:
            tags = named[id(each)]
            each.values["tags"] = sorted({known[folded[name]] for name in tags if folded[name] in known})
            # Of names that are alike, the first one.
            unknown = {folded[name]: name for name in reversed(tags) if folded[name] not in known}
            if reasons := dict.fromkeys(filter(None, map(self._new_tag, unknown.values()))):
                self._fault(each, "tags", "; ".join([*reasons][:MOST_NAMED]), "; ".join(tags))
            elif unknown:
                self._remark(each, "tags", f"{len(unknown)} of these tags are made", "; ".join(tags))
            each.new_tags = list(unknown.values())

    def _new_tag(self, name: str) -> str | None:
        """Why no tag of this name can be made; None if one can."""
        if not self._options.create_tags:
            return f"there is no tag {name!r}: make it first, or allow create_tags"
        return _why_not({"name": name}, TagCreate)

    async def _name_records(self, candidates: Sequence[Candidate]) -> None:
        """What a row belongs to may be named by its external_id, email, name or id; a contact's name is one among those
        of the customer.
        """
        for name in matching.NAMED:
            if f"{name}_id" not in self._kind.create.__struct_fields__:
                continue
            naming: dict[str, list[Candidate]] = defaultdict(list)
            for each in candidates:
                if (term := each.document.pop(name, None)) is not None:
                    naming[str(term)].append(each)
            found = await matching.named(self._tx, name, naming)
            called = await self._contacts_called(naming) if name == "contact" else {}
            for term, several in naming.items():
                for each in several:
                    given = each.document.get(f"{name}_id")
                    ids = [*found.get(term, ()), *called.get((each, term), ())]
                    if given is None:
                        self._name_record(each, name, term, found.get(term) or ids)
                    elif given not in ids:
                        self._remark(each, name, f"the {name} {given} is not called so: the id counts", term)

    async def _contacts_called(
        self, naming: Mapping[str, Sequence[Candidate]]
    ) -> dict[tuple[Candidate, str], Sequence[int]]:
        """By row and name the contacts of its customer that are called so; where it has the id of a contact, of that
        one's.
        """
        rows = [(each, term) for term, several in naming.items() for each in several]
        given: dict[Candidate, int] = {each: each.document.get("contact_id") or 0 for each, _ in rows}
        known = sorted({contact_id for contact_id in given.values() if 1 <= contact_id <= MAX_ID})
        of_contacts = await matching.customers_of(self._tx, "contact_id", known)
        whose = {each: of_contacts.get(given[each]) or each.document.get("customer_id") for each, _ in rows}
        called = await matching.contacts_called(self._tx, naming, set(whose.values()))
        return {(each, term): called.get((whose[each] or 0, term), []) for each, term in rows}

    def _name_record(self, each: Candidate, name: str, term: str, ids: Sequence[int]) -> None:
        if len(ids) == 1:
            each.document[f"{name}_id"] = ids[0]
        elif ids:
            self._fault(each, name, f"several {name}s are called so, with the ids {_some(ids)}", term)
        elif name != "customer":
            self._fault(each, name, f"there is no such {name}", term)
        elif (reason := self._new_customer(term)) is None:
            each.document["customer_id"] = NEW_CUSTOMER_ID
            each.new_customer = term
            self._remark(each, name, "no customer is called so: one is made", term)
        else:
            self._fault(each, name, reason, term)

    def _new_customer(self, name: str) -> str | None:
        """Why no customer of this name can be made; None if one can."""
        if not self._options.create_customers:
            return "there is no such customer: make it first, or allow create_customers"
        return _why_not({"name": name}, CustomerCreate)

    # ── which record it is about ─────────────────────────────────────────────────────────────────────────────────────

    async def _match(self, candidates: Sequence[Candidate]) -> None:
        ids: dict[int, int] = {}
        for number, each in enumerate(candidates):
            given = each.document.pop("id", None)
            if self._match_on is MatchOn.ID and given is not None:
                if isinstance(given, int) and 1 <= given < MAX_ID:
                    ids[number] = given
                else:
                    self._fault(each, "id", "must be the id of a record", given)
            each.unknown = each.is_wrong(self._match_on.value)
        await self._find_holders(candidates)
        for number, each in enumerate(candidates):
            if number in ids:
                each.record_id = ids[number]
            elif self._match_on in {MatchOn.EXTERNAL_ID, MatchOn.EMAIL} and not each.unknown:
                found = self._holders_of(self._match_on.value, each)
                if len(found) > 1:
                    which = "" if self._tx.own_records_only else f": {', '.join(map(str, found[:MOST_NAMED]))}"
                    self._fault(each, self._match_on.value, f"belongs to several {self._resource.kind}s{which}")
                    each.unknown = True
                elif found:
                    (each.record_id,) = found
        wanted = sorted({each.record_id for each in candidates if each.record_id is not None})
        rows = await self._kind.repository.read_live(self._tx, wanted) if wanted else {}
        for each in candidates:
            if each.record_id is None:
                continue
            each.present = rows.get(each.record_id)
            if each.present is None:
                name = self._match_on.value
                text = self._resource.not_found.message if name == "id" else "it is of a record that you don't see"
                self._fault(each, name, text, each.record_id if name == "id" else None)
                each.unknown = True
            elif self._options.on_match is OnMatch.SKIP:
                each.outcome = SKIP
            elif self._match_on is MatchOn.EXTERNAL_ID and each.present["external_id"] != each.document["external_id"]:
                # It was found by the key of one that was merged into it, and keeps its own.
                del each.document["external_id"]

    async def _find_holders(self, candidates: Sequence[Candidate]) -> None:
        """Who has the external ids and emails of these rows."""
        wanted = {
            name: {value for each in candidates if (value := self._key(name, each)) is not None}
            for name in ("external_id", "email")
        }
        async with history.seeing_all(self._tx):
            await self._holders.find(self._tx, wanted["external_id"], wanted["email"])

    def _holders_of(self, name: str, each: Candidate) -> list[int]:
        value = self._key(name, each)
        return [] if value is None else self._holders.of(name, value)

    @staticmethod
    def _key(name: str, each: Candidate) -> str | None:
        """The external id or email of a row, as it would be stored; None where it has none."""
        value = each.document.get(name)
        if not isinstance(value, str):
            return None
        try:
            return (value if name == "external_id" else trimmed(value)) or None
        except Refused:
            return None

    # ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────────────

    def _read_bodies(self, candidates: Iterable[Candidate]) -> None:
        """Read what is sent, as the body of a request."""
        for each in candidates:
            if each.outcome == SKIP:
                continue
            document, present = each.document, each.present
            if present is not None and self._options.on_match is OnMatch.FILL_EMPTY:
                document = {name: value for name, value in document.items() if _is_empty(present.get(name))}
                document.pop("stage", None)  # a deal is always in one
                if present.get("tags"):
                    each.values.pop("tags", None)
                    each.new_tags = []
            if present is None:
                for name in OWNERS:
                    default: int | str | None = getattr(self._options, name)
                    if default is not None:
                        document.setdefault(name, default)
            # Whether a field is missing can be said of a new record only.
            new = present is None and not each.unknown
            try:
                body = read_again(_right(each, document), self._kind.create if new else self._kind.change)
            except AppError as error:
                self._refuse(each, error)
                body = self._rest(each, document)
            each.values |= body.given()
            if each.wrong:
                # What is named in vain is there, for rules that want something there.
                named = {f"{name}_id" for name in NAMED if each.is_wrong(name)}
                each.values |= dict.fromkeys(named & {*self._kind.change.__struct_fields__}, NEW_CUSTOMER_ID)

    def _rest(self, each: Candidate, document: dict[str, Any]) -> Body:
        """What is right in a body that is wrong."""
        known = self._kind.change.__struct_encode_fields__
        rest = {name: value for name, value in _right(each, document).items() if name in known}
        try:
            body: Body = read_again(rest, self._kind.change)
        except AppError:
            return self._kind.change()
        return body

    async def _decide(self, each: Candidate) -> None:
        """What is written, or why not."""
        values, tags = each.values, each.values.pop("tags", None)
        each.outcome = CREATE if each.present is None else UPDATE
        try:
            values = await self._prepared(each, dict(values))
        except AppError as error:
            self._refuse(each, error)
        if each.wrong:
            present = each.present or {}
            each.values = {name: value for name, value in each.values.items() if present.get(name) != value}
            self._check_keys(each)
            return
        if tags is not None:
            values["tags"] = sorted({*tags, *(each.present["tags"] if each.present is not None else ())})
        if each.present is not None:
            changed = differing(each.present, values)
            if each.new_tags:  # they come to the others
                changed["tags"] = values["tags"]
            each.before = {name: each.present[name] for name in changed}
            each.outcome = UPDATE if changed else UNCHANGED
            values = changed
        each.values = values
        self._check_keys(each)

    async def _prepared(self, each: Candidate, values: dict[str, Any]) -> dict[str, Any]:
        """What is stored of these values. Raises AppError."""
        if each.is_wrong(*DECISIVE):
            return values
        if each.present is not None:
            return await self._kind.prepare_change(self._batch, each.present, values)
        return self._kind.repository.dated(self._tx, await self._kind.prepare(self._batch, values))

    def _check_keys(self, each: Candidate) -> None:
        """What only one record may have, and so only one row may say."""
        if each.record_id is not None:
            each.keys.append(f"id:{each.record_id}")
        for name in ("external_id", "email"):
            value = each.values.get(name, None if each.present is None else each.present.get(name))
            if value is None or (name == "email" and not self._kind.email_is_key):
                continue
            each.keys.append(f"{name}:{self._holders.key(name, value)}")
            others = [holder for holder in self._holders.of(name, value) if holder != each.record_id]
            if others and name in each.values:
                # No id if this person may not see the record that has it.
                which = "" if self._tx.own_records_only else f", with the id {others[0]}"
                self._fault(each, name, f"belongs to another {self._resource.kind}{which}", value)
        if each.values.get("is_primary"):
            each.keys.append(f"is_primary:{(each.new_customer or '').casefold() or each.after.get('customer_id')}")

    async def _check_links(self, candidates: Sequence[Candidate]) -> None:
        """New references lead to live records that this person sees, and a contact to one of the customer."""
        looked = [each for each in candidates if each.outcome in {CREATE, UPDATE}]
        for each in looked:
            # A change may name the customer that it has.
            if each.new_customer is not None and each.values.pop("customer_id", None) != NEW_CUSTOMER_ID:
                each.new_customer = None
        for column, target in references(self._resource):
            referring = [each for each in looked if each.values.get(column) is not None]
            live = await matching.live_ids(self._tx, target, {each.values[column] for each in referring})
            for each in referring:
                if each.values[column] not in live:
                    self._fault(each, column, target.not_found.message, each.values[column])
        if self._resource in {DEALS, ACTIVITIES}:
            await self._check_contacts([each for each in looked if not each.is_wrong("customer", "deal", "contact")])

    async def _check_contacts(self, candidates: Sequence[Candidate]) -> None:
        changed = [each for each in candidates if each.values.keys() & {"contact_id", "customer_id", "deal_id"}]
        customer_of = {
            column: await matching.customers_of(self._tx, column, ids)
            for column in matching.OF_CUSTOMERS
            if (ids := sorted({given for each in changed if (given := each.after.get(column)) is not None}))
        }
        for each in changed:
            contact_id, deal_id = each.after.get("contact_id"), each.after.get("deal_id")
            if contact_id is None:
                continue
            whose = NEW_CUSTOMER_ID if each.new_customer is not None else each.after.get("customer_id")
            if whose is None and deal_id is not None:
                whose = customer_of["deal_id"].get(deal_id)
            if whose is not None and customer_of["contact_id"].get(contact_id) != whose:
                self._fault(each, "contact_id", "The contact is not one of this customer", contact_id)

    async def _check_owners(self, candidates: Sequence[Candidate]) -> None:
        """Whoever may change its own only, changes its own only, and adds contacts to own customers."""
        if self._tx.actor.can(Permission.MANAGE_ALL):
            return
        changed = [(each, each.record_id) for each in candidates if each.outcome == UPDATE]
        await self._require_own(self._resource, None, changed)
        if self._resource is CONTACTS:
            added = [(each, each.values.get("customer_id")) for each in candidates if each.outcome == CREATE]
            await self._require_own(CUSTOMERS, "customer_id", added)

    async def _require_own(
        self, target: Resource, name: str | None, records: Sequence[tuple[Candidate, int | None]]
    ) -> None:
        own = await matching.owned_ids(
            self._tx, target, {record_id for _, record_id in records if record_id is not None}
        )
        for each, record_id in records:
            if record_id is not None and record_id not in own:
                self._fault(each, name, f"this {target.kind} is not yours: you may read it, not change it", record_id)

    # ── what is said about it ────────────────────────────────────────────────────────────────────────────────────────

    def _fault(self, each: Candidate, name: str | None, message: str, value: Any = None) -> None:
        """The row is wrong, and why. Once is enough for a field: what follows from it is no news."""
        if name is None or not each.is_wrong(name):
            each.faults.append(self._problem(each, name, message, value))

    def _remark(self, each: Candidate, name: str | None, message: str, value: Any = None) -> None:
        """What a person should know of the row."""
        each.remarks.append(self._problem(each, name, message, value))

    def _problem(self, each: Candidate, name: str | None, message: str, value: Any) -> Problem:
        column = None if name is None else self._column_of(name)
        # As it stands in the file, so that it can be found there.
        if column is not None and column.place < len(each.row.cells) and (cell := each.row.cells[column.place]):
            value = cell.strip()
        elif value is None and name is not None:
            value = each.document.get(name)
        shown = None if value is None else printable(str(value))[:LONGEST_SHOWN]
        return Problem(None if column is None else column.name, name, shown, message)

    def _column_of(self, name: str) -> ColumnPlan | None:
        """The column that has a field: also what names it, or what it is a part of."""
        name = name.partition(".")[0]
        names = (name, name.removesuffix("_id"), *(PARTS if name in PARTS else ()))
        return next(filter(None, map(self._reading.column_of, names)), None)

    def _refuse(self, each: Candidate, error: AppError) -> None:
        """The same for what a request would be refused for."""
        if error.status >= 500:
            raise error
        fields = (error.data or {}).get("fields") or [{"field": None, "message": error.message}]
        late = error.code is Code.DUE_DATE_IN_PAST or each.document.get("status") == "overdue"
        for fault in fields:
            more = f": {TAKE_OVERDUE}" if late and fault["field"] in {"status", "due_date"} else ""
            self._fault(each, fault["field"], fault["message"] + more)

    @staticmethod
    def _found(each: Candidate) -> dict[str, Any]:
        """What is stored about it."""
        document = dict(each.values)
        if each.new_tags:
            document[NEW_TAGS] = each.new_tags
        if each.new_customer is not None:
            document[NEW_CUSTOMER] = each.new_customer
        outcome = ERROR if each.wrong else each.outcome
        writes = outcome in {CREATE, UPDATE}
        return {
            "number": each.row.number,
            "outcome": outcome,
            "record_id": each.record_id,
            "version": each.present["version"] if writes and each.present is not None else None,
            "document": document if writes else None,
            "before": each.before if writes else None,
            "problems": each.faults or each.remarks or None,
            "keys": each.keys if not each.wrong and each.keys else None,
        }


def _why_not(document: dict[str, Any], wanted: type[Body]) -> str | None:
    """Why this is no such body; None if it is."""
    try:
        read_again(document, wanted)
    except AppError as error:
        return error.message
    return None


def _bare(name: str) -> str:
    """A field without what stands in it, or behind the name of what it refers to."""
    return name.partition(".")[0].removesuffix("_id")


def _right(each: Candidate, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not known to be wrong."""
    return {name: value for name, value in document.items() if not each.is_wrong(name)}


def _some(ids: Sequence[int | str]) -> str:
    """Some ids for a sentence."""
    return ", ".join(map(str, ids[:MOST_NAMED])) + (" and more" if len(ids) > MOST_NAMED else "")


def _texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value])]


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
