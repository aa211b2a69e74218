"""What becomes of each row of the Go service: the rules of this service, applied to data that never knew them."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from app.admin.activities.schemas import ActivityStatus, ActivityType, Priority
from app.admin.customers.schemas import CustomerKind, CustomerStatus
from app.go_service.drafts import NOBODY, Draft, Record, as_number
from app.go_service.source import Row, Source, SourceError
from app.money import AMOUNT_LIMIT, currency_decimals
from app.web import strict_json
from app.web.text import WHITE_SPACE

# The stages that a new organization has: display name, color, kind and probability.
STAGES = {
    "prospecting": ("Prospecting", "#6366f1", "open", 10),
    "qualification": ("Qualification", "#8b5cf6", "open", 20),
    "proposal": ("Proposal", "#a855f7", "open", 50),
    "negotiation": ("Negotiation", "#f59e0b", "open", 75),
    "closed_won": ("Closed Won", "#22c55e", "won", 100),
    "closed_lost": ("Closed Lost", "#ef4444", "lost", 0),
}
FIRST_OF_KIND = {"open": "prospecting", "won": "closed_won", "lost": "closed_lost"}
STAGE_COLOR = "#64748b"
NAME_LIMIT, DISPLAY_LIMIT = 50, 100
# Those of HTML.
COLORS = {
    "aqua": "#00ffff", "black": "#000000", "blue": "#0000ff", "fuchsia": "#ff00ff", "gray": "#808080",
    "green": "#008000", "grey": "#808080", "lime": "#00ff00", "maroon": "#800000", "navy": "#000080",
    "olive": "#808000", "orange": "#ffa500", "pink": "#ffc0cb", "purple": "#800080", "red": "#ff0000",
    "silver": "#c0c0c0", "teal": "#008080", "white": "#ffffff", "yellow": "#ffff00",
}  # fmt: skip
LONG_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
SHORT_COLOR = re.compile(r"#([0-9a-fA-F])([0-9a-fA-F])([0-9a-fA-F])")
STATUSES = frozenset(CustomerStatus)
KINDS = frozenset(CustomerKind)
TYPES = frozenset(ActivityType)
PRIORITIES = frozenset(Priority)
DONE = frozenset(ActivityStatus) - {ActivityStatus.OVERDUE}
SAME_PRIORITY = {"medium": "normal", "urgent": "high", "critical": "high"}
# An overdue activity is a scheduled one whose day has passed.
SAME_STATUS = {
    "overdue": "scheduled", "pending": "scheduled", "planned": "scheduled", "open": "scheduled",
    "done": "completed", "canceled": "cancelled",
}  # fmt: skip
MOST_MINUTES = 2**31 - 1
HOLDER = "From the Go service, without a customer"
CHUNK = 1_000

# Folds texts as the database does, to find those that are alike.
Fold = Callable[[list[str]], list[str]]


class Stage(NamedTuple):
    """A stage as it is here, by its own name."""

    name: str
    kind: str
    probability: int


class Place(NamedTuple):
    """Where a stage stands among the others."""

    inactive: bool
    without_order: bool
    order: Decimal
    id: int


LAST = Place(inactive=True, without_order=True, order=Decimal(0), id=0)


class Context(NamedTuple):
    """What the rules need to know of this side. `moment` stands for times that can't be told; `holder_id` is of the
    customer for what had none.
    """

    currency: str
    moment: datetime
    holder_id: int
    users: Mapping[str, str]
    fold: Fold
    fold_emails: Fold


class Mapper:
    """All records of an organization, each with what is different. The same source makes the same records each time."""

    def __init__(self, source: Source, context: Context) -> None:
        self._source = source
        self._context = context
        # Whether something was without a customer.
        self.needs_holder = False
        self._tags: dict[int, int] = {}
        self._stages: dict[str | None, tuple[Stage, str | None]] = {}
        self._emails: set[bytes] = set()
        self._with_primary: set[int] = set()

    def records(self, table: str) -> Iterator[Record]:
        """The records of a table, by id. Tables are read in the order of `source.TABLES`, each once.

        Raises SourceError for an id that this service can't have.
        """
        rows = self._checked(table)
        if table == "tags":
            yield from self._make_tags(rows)
        elif table == "pipeline_stages":
            yield from self._make_stages(rows)
        elif table == "customers":
            yield from self._make_customers(rows)
        else:
            make = {"contacts": self._contact, "deals": self._deal, "activities": self._activity, "notes": self._note}
            yield from map(make[table], rows)

    def holder(self) -> Record:
        """The customer for what had none."""
        draft = Draft("customers", self._context.holder_id, {})
        moment = self._context.moment
        draft.values = {
            **dict.fromkeys(CUSTOMER_FIELDS), "name": HOLDER, "status": "inactive", "contacted": False, "tags": [],
            "created_at": moment, "updated_at": moment, "deleted_at": None,
        }  # fmt: skip
        return Record("customers", draft.id, draft.values, [], [])

    def _checked(self, table: str) -> Iterator[Row]:
        for row in self._source.rows(table):
            if row["id"] < 1:
                raise SourceError(f"{table} has the id {row['id']}, which this service can't keep: change it there")
            yield row

    # Tags ------------------------------------------------------------------------------------------------------------

    def _make_tags(self, rows: Iterable[Row]) -> Iterator[Record]:
        """Live tags; of those whose names are alike, the oldest."""
        drafts = []
        for row in rows:
            if row["own"] is not None:
                continue
            draft = Draft("tags", row["id"], row["row"])
            draft.values["name"] = draft.name("name", 100, f"Tag {row['id']}")
            draft.values["color"] = _color(draft, None)
            draft.times(None, None, self._context.moment)
            del draft.values["deleted_at"]
            drafts.append(draft)
        folded = self._context.fold([draft.values["name"] for draft in drafts])
        oldest: dict[str, Draft] = {}
        ordered = sorted(zip(drafts, folded, strict=True), key=lambda pair: (pair[0].values["created_at"], pair[0].id))
        for draft, name in ordered:
            kept = oldest.setdefault(name, draft)
            self._tags[draft.id] = kept.id
            if kept is not draft:
                draft.say("name", draft.values["name"], f"is alike another tag: its customers have tag {kept.id} now")
                kept.problems += draft.problems
        yield from sorted((draft.finish() for draft in oldest.values()), key=lambda record: record.id)

    # Stages ----------------------------------------------------------------------------------------------------------

    def _make_stages(self, rows: Iterable[Row]) -> Iterator[Record]:
        """The stages there; those that deals name besides; and of each kind at least one that is active."""
        taken: set[str] = set()
        made: list[tuple[Place, Draft]] = []
        # The live ones first: a name is theirs.
        for row in sorted(rows, key=lambda row: (row["own"] is not None, row["id"])):
            draft = Draft("pipeline_stages", row["id"], row["row"])
            place = as_number(draft.take("order"))
            raw = draft.take("name")
            shown = draft.line("display_name", DISPLAY_LIMIT)
            live = draft.take("is_active") is not False and row["own"] is None
            stage = self._new_stage(draft, raw, shown, taken, live=live)
            if row["own"] is not None:
                draft.say("deleted_at", row["own"].isoformat(), "is in the trash there: an inactive stage now")
            self._stages.setdefault(raw, (stage, None))
            draft.times(None, None, self._context.moment)
            del draft.values["deleted_at"]
            made.append((Place(not live, place is None, place or Decimal(0), row["id"]), draft))
        for order, name in enumerate(() if made else STAGES):
            draft = Draft("pipeline_stages", 0, {})
            self._stages[name] = self._new_stage(draft, name, None, taken, live=True), None
            made.append((LAST._replace(inactive=False, order=Decimal(order)), draft))
        closed = [place for place, draft in sorted(made, key=itemgetter(0)) if draft.values["kind"] != "open"]
        # What only deals name goes before the first closed one.
        between = closed[0]._replace(id=closed[0].id - 1) if closed else LAST
        for text in self._source.stage_names():
            known = self._known_stage(text)
            if known is not None:
                self._stages[text] = (known, None if known.name == text else f"is {known.name} now")
            elif text is not None and text.strip(WHITE_SPACE):
                draft = Draft("pipeline_stages", 0, {})
                stage = self._new_stage(draft, text, None, taken, live=False)
                draft.say("name", text, f"is a stage that only deals name: the inactive stage {stage.name} now")
                self._stages[text] = (stage, None)
                made.append((between, draft))
        yield from self._placed_stages(made, taken)

    def _placed_stages(self, made: list[tuple[Place, Draft]], taken: set[str]) -> Iterator[Record]:
        drafts = [draft for _, draft in sorted(made, key=itemgetter(0))]
        for kind, name in FIRST_OF_KIND.items():
            if any(draft.values["is_active"] and draft.values["kind"] == kind for draft in drafts):
                continue
            draft = next((draft for draft in drafts if draft.values["name"] == name), None) or Draft(
                "pipeline_stages", 0, {}
            )
            if draft not in drafts:
                # An open stage is the first one, the others come last.
                drafts.insert(0 if kind == "open" else len(drafts), draft)
                self._new_stage(draft, name, None, taken, live=True)
            draft.values["is_active"] = True
            draft.say("is_active", name, f"is active, since a pipeline needs a stage of the kind {kind}")
        active = [draft for draft in drafts if draft.values["is_active"] and draft.values["kind"] == "open"]
        name = active[0].values["name"]
        first = Stage(name, "open", active[0].values["probability"])
        for text in self._source.stage_names():
            self._stages.setdefault(text, (first, f"is empty: {name} now"))
        for place, draft in enumerate(drafts, 1):
            draft.values["order"] = place
            moment = self._context.moment
            draft.values = {"created_at": moment, "updated_at": moment} | draft.values
            yield draft.finish()

    def _new_stage(self, draft: Draft, raw: object, shown: str | None, taken: set[str], *, live: bool) -> Stage:
        """Give a stage its name, which programs use, and what follows from it."""
        text = "" if raw is None else str(raw)
        slug = _slug(text)
        name, number = slug[:NAME_LIMIT].rstrip("_-") or f"stage_{draft.id or len(taken) + 1}", 2
        while name in taken:
            name, number = f"{slug[: NAME_LIMIT - 5].rstrip('_-') or 'stage'}_{number}", number + 1
        taken.add(name)
        if name != text and draft.id:
            draft.say("name", raw, f"is {name} now")
        display, color, kind, probability = STAGES.get(name, (None, STAGE_COLOR, "open", 0))
        readable = Draft(draft.table, draft.id, {"display_name": text}).line("display_name", DISPLAY_LIMIT)
        draft.values |= {
            "name": name, "display_name": shown or display or readable or name, "color": _color(draft, color),
            "is_active": live, "kind": kind, "probability": probability,
        }  # fmt: skip
        return Stage(name, kind, probability)

    def _known_stage(self, text: str | None) -> Stage | None:
        """The stage of this name, or of one that differs in case and white space only."""
        if text in self._stages:
            return self._stages[text][0]
        wanted = (text or "").strip(WHITE_SPACE).casefold()
        return next(
            (stage for name, (stage, _) in self._stages.items() if wanted and (name or "").casefold() == wanted), None
        )

    # Customers and contacts ------------------------------------------------------------------------------------------

    def _make_customers(self, rows: Iterator[Row]) -> Iterator[Record]:
        while chunk := [self._customer(row) for row in islice(rows, CHUNK)]:
            emails = [draft.values["email"] for draft in chunk]
            folded = iter(self._context.fold_emails([email for email in emails if email is not None]))
            for draft, email in zip(chunk, emails, strict=True):
                if email is None:
                    continue
                key = hashlib.blake2b(next(folded).encode(), digest_size=8).digest()
                if draft.values["deleted_at"] is not None:
                    continue
                if key in self._emails:
                    draft.values["email"] = None
                    draft.keep("email", email, "another customer has this email")
                self._emails.add(key)
            for draft in chunk:
                yield draft.finish({"customer_id": draft.id})

    def _customer(self, row: Row) -> Draft:
        draft = Draft("customers", row["id"], row["row"] or {})
        if row["row"] is None:
            draft.say("id", row["id"], "is referred to, and was not there: a customer again, without anything")
            draft.values = self.holder().values | {"name": f"Customer {row['id']}"}
            return draft
        email = draft.line("email", 1_000)
        company = draft.line("company", 255)
        draft.values = {
            "name": draft.name("name", 255, company or (email or "")[:255] or f"Customer {row['id']}"),
            "email": draft.read("email", email),
            "phone": draft.line("phone", 50),
            "company": company,
            "role": draft.line("role", 100),
            "industry": draft.line("industry", 100),
            "website": draft.read("website", draft.line("website", 1_000)),
            "kind": draft.choice("kind", KINDS, "person") if (row["row"].get("kind") or None) else None,
            "status": draft.choice("status", STATUSES, "lead"),
            "assigned_to": draft.user("assigned_to", self._context.users),
            "contacted": draft.flag("contacted"),
            "next_follow_up_at": draft.time("next_follow_up_at"),
            "contact_preferences": _preferences(draft),
            "external_id": draft.read("external_id", draft.line("external_id", 255)),
            "notes": draft.text("notes", 10_000),
            "tags": self._tags_of(draft, row["tags"] or []),
        }
        draft.times(row["went"], row["own"], self._context.moment)
        return draft

    def _tags_of(self, draft: Draft, tag_ids: list[int]) -> list[int]:
        found = sorted({self._tags[tag_id] for tag_id in tag_ids if tag_id in self._tags})
        for tag_id in tag_ids:
            if tag_id not in self._tags:
                draft.say("tags", tag_id, "is a tag that is not there, or in the trash: left out")
        if len(found) < sum(tag_id in self._tags for tag_id in tag_ids):
            draft.say("tags", json.dumps(tag_ids), "has tags that are alike, or one twice: each once now")
        return found

    def _contact(self, row: Row) -> Record:
        draft = Draft("contacts", row["id"], row["row"])
        customer_id = self._customer_of(draft)
        first, last = draft.line("first_name", 100), draft.line("last_name", 100)
        email = draft.line("email", 1_000)
        if first is None and last is None:
            first = (email or "").partition("@")[0][:100] or f"Contact {row['id']}"
            draft.say("first_name", None, f"has no name: “{first}” now")
        draft.values = {
            "customer_id": customer_id,
            "first_name": first or "",
            "last_name": last,
            "email": draft.read("email", email),
            "phone": draft.line("phone", 50),
            "position": draft.line("position", 100),
            "is_primary": draft.flag("is_primary"),
            "external_id": draft.read("external_id", draft.line("external_id", 255)),
            "notes": draft.text("notes", 10_000),
        }
        draft.times(row["went"], row["own"], self._context.moment)
        if draft.values["is_primary"] and draft.values["deleted_at"] is None:
            if customer_id in self._with_primary:
                draft.values["is_primary"] = False
                draft.say("is_primary", True, "is a second primary contact of its customer: not primary now")
            self._with_primary.add(customer_id)
        return draft.finish({"customer_id": customer_id})

    def _customer_of(self, draft: Draft) -> int:
        """The customer of what can't be without one."""
        found = draft.link("customer_id")
        if found is None:
            draft.say("customer_id", None, f"has no customer: belongs to “{HOLDER}” now")
            self.needs_holder = True
        return self._context.holder_id if found is None else found

    # Deals -----------------------------------------------------------------------------------------------------------

    def _deal(self, row: Row) -> Record:
        draft = Draft("deals", row["id"], row["row"])
        raw = row["row"]["stage"]
        stage, change = self._stages[None if raw is None else str(raw)]
        draft.take("stage")
        if change is not None:
            draft.say("stage", raw, change)
        customer_id = self._customer_of(draft)
        currency = self._currency(draft)
        reason = draft.line("lost_reason", 255)
        if reason is not None and stage.kind != "lost":
            draft.keep("lost_reason", reason, "is of a deal that is not lost")
            reason = None
        probability = draft.whole("probability", 0, 100)
        draft.values = {
            "title": draft.name("title", 255, f"Deal {row['id']}"),
            "customer_id": customer_id,
            "stage": stage.name,
            "amount": _amount(draft, currency),
            "currency": currency,
            "probability": stage.probability if probability is None else probability,
            "expected_close_date": draft.time("expected_close_date"),
            "actual_close_date": draft.time("actual_close_date"),
            "owner_id": draft.user("owner_id", self._context.users),
            "lost_reason": reason,
            "external_id": draft.read("external_id", draft.line("external_id", 255)),
            "description": draft.text("description", 10_000),
        }
        draft.times(row["went"], row["own"], self._context.moment)
        draft.values["contact_id"] = _contact_of(draft, row, [customer_id], live=draft.values["deleted_at"] is None)
        closed_at = draft.values["actual_close_date"]
        if stage.kind == "open":
            if closed_at is not None:
                draft.keep("actual_close_date", closed_at.isoformat(), "is of a deal that is open")
            draft.values |= {"actual_close_date": None, "stage_entered_at": draft.values["created_at"]}
        else:
            if closed_at is None:
                closed_at = draft.values["updated_at"]
                draft.say("actual_close_date", None, "of a closed deal is empty: when it was last changed")
            draft.values |= {"actual_close_date": closed_at, "stage_entered_at": closed_at}
        return draft.finish({"deal_id": draft.id})

    def _currency(self, draft: Draft) -> str:
        raw = draft.take("currency")
        code = "" if raw is None else str(raw).strip().upper()
        if not code.isascii() or currency_decimals(code) is None:
            done = f"is no currency: {self._context.currency} now"
            if raw is None:
                draft.say("currency", raw, done)
            else:
                draft.keep("currency", raw, done)
            return self._context.currency
        if code != raw:
            draft.say("currency", raw, f"is {code} now")
        return code

    # Activities and notes --------------------------------------------------------------------------------------------

    def _activity(self, row: Row) -> Record:
        draft = Draft("activities", row["id"], row["row"])
        status = draft.choice("status", DONE, "scheduled", SAME_STATUS)
        kind = draft.choice("type", TYPES, "task")
        due = draft.time("due_date")
        draft.values = {
            "title": draft.name("title", 255, f"Activity {row['id']}"),
            "type": kind,
            "status": status,
            "customer_id": draft.link("customer_id"),
            "deal_id": draft.link("deal_id", there=row["has_deal"]),
            "assigned_to": draft.user("assigned_to", self._context.users),
            "due_date": due,
            "all_day": kind == "task"
            and due is not None
            and due == due.replace(hour=0, minute=0, second=0, microsecond=0),
            "completed_at": draft.time("completed_at"),
            "duration": draft.whole("duration", 0, MOST_MINUTES) or None,
            "priority": draft.choice("priority", PRIORITIES, "normal", SAME_PRIORITY),
            "outcome": draft.text("outcome", 10_000),
            "external_id": draft.read("external_id", draft.line("external_id", 255)),
            "description": draft.text("description", 10_000),
        }
        draft.times(row["went"], row["own"], self._context.moment)
        whose = (
            [draft.values["customer_id"] or row["deal_of"]] if draft.values["customer_id"] or row["has_deal"] else []
        )
        draft.values["contact_id"] = _contact_of(draft, row, whose, live=False)
        completed_at = draft.values["completed_at"]
        if status == "completed" and completed_at is None:
            draft.values["completed_at"] = draft.values["updated_at"]
            draft.say("completed_at", None, "of a completed activity is empty: when it was last changed")
        elif status != "completed" and completed_at is not None:
            draft.values["completed_at"] = None
            draft.keep("completed_at", completed_at.isoformat(), "is of an activity that is not completed")
        return draft.finish({"activity_id": draft.id})

    def _note(self, row: Row) -> Record:
        draft = Draft("notes", row["id"], row["row"])
        author = draft.user("author_id", self._context.users)
        if author is None:
            draft.say("author_id", None, f"has no author: {NOBODY} now")
        links = {
            "customer_id": draft.link("customer_id"),
            "deal_id": draft.link("deal_id", there=row["has_deal"]),
            "activity_id": draft.link("activity_id", there=row["has_activity"]),
        }
        if not any(links.values()):
            links["customer_id"] = self._context.holder_id
            self.needs_holder = True
            draft.say("customer_id", None, f"belongs to nothing: to “{HOLDER}” now")
        content = draft.text("content", 20_000)
        if content is None:
            content = "(empty)"
            draft.say("content", row["row"]["content"], f"is blank: “{content}” now")
        draft.values = {
            "content": content,
            **links,
            "author_id": author or NOBODY,
            "author_name": draft.line("author_name", 255),
            "external_id": draft.read("external_id", draft.line("external_id", 255)),
        }
        draft.times(row["went"], row["own"], self._context.moment)
        return draft.finish(links)


CUSTOMER_FIELDS = (
    "name", "email", "phone", "company", "role", "industry", "website", "kind", "status", "assigned_to", "contacted",
    "next_follow_up_at", "contact_preferences", "external_id", "notes", "tags",
)  # fmt: skip


def _slug(text: str) -> str:
    """A name that programs can use: small letters, digits, and single - or _ between them."""
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[_-]{2,}", "_", re.sub(r"[^a-z0-9_-]+", "_", bare)).strip("_-")


def _color(draft: Draft, default: str | None) -> str | None:
    raw = draft.take("color")
    if raw is None:
        return default
    text = str(raw).strip()
    short = SHORT_COLOR.fullmatch(text)
    found = text if LONG_COLOR.fullmatch(text) else COLORS.get(text.lower())
    if short:
        found = "#" + "".join(letter * 2 for letter in short.groups())
    if found != raw:
        draft.say("color", raw, f"is {found or default or 'left out'} now")
    return found or default


def _amount(draft: Draft, currency: str) -> Decimal:
    raw = draft.take("amount")
    amount = as_number(raw)
    if raw is None:
        return Decimal(0)
    if amount is None or not 0 <= amount < AMOUNT_LIMIT:
        draft.keep("amount", raw, "is negative, too large or no number: 0 now")
        return Decimal(0)
    decimals = currency_decimals(currency) or 0
    rounded = amount.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    if rounded != amount:
        draft.keep("amount", raw, f"has more than the {decimals} decimals of {currency}: rounded")
    return rounded if rounded < AMOUNT_LIMIT else Decimal(AMOUNT_LIMIT - 1)


def _contact_of(draft: Draft, row: Row, customers: list[int], *, live: bool) -> int | None:
    """The contact, if it is there, of this customer, and not in the trash where the record is `live`."""
    contact_id = draft.link("contact_id", there=row["has_contact"])
    if contact_id is None:
        return None
    who = f"{contact_id} ({row['name']})" if row["name"] else contact_id
    if customers and row["contact_of"] not in customers:
        draft.keep("contact_id", who, "is of another customer: left out")
        return None
    if live and row["contact_went"] is not None:
        draft.keep("contact_id", who, "is in the trash: left out")
        return None
    return contact_id


def _preferences(draft: Draft) -> Any:
    raw = draft.take("contact_preferences")
    found = raw
    if isinstance(raw, str):
        try:
            found = strict_json.decode(raw.encode())
        except ValueError:
            found = raw
    if found is None or found == "":
        return None
    try:
        found = strict_json.decode(strict_json.encode(found))
    except ValueError:
        draft.keep("contact_preferences", raw, "is no JSON that can be stored")
        return None
    if not isinstance(found, dict):
        draft.keep("contact_preferences", raw, "is no JSON object")
        return None
    return draft.read("contact_preferences", found)
