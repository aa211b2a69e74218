"""Taking changes back: each audit entry of an operation is inverted, the newest first.

What somebody changed since is not overwritten: the undo is refused, or leaves it and says so. What was trashed or
restored with a record comes and goes with it again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from msgspec import convert
from psycopg.errors import IntegrityError

from app.access.permissions import Permission
from app.admin.activities import service as activities
from app.admin.activities.queries import ACTIVITIES
from app.admin.attachments.queries import ATTACHMENTS
from app.admin.contacts import service as contacts
from app.admin.contacts.queries import CONTACTS
from app.admin.customers.queries import CUSTOMERS
from app.admin.deals import service as deals
from app.admin.deals.queries import DEALS
from app.admin.history.schemas import Kept
from app.admin.members import service as members
from app.admin.members.queries import MEMBERS
from app.admin.notes.queries import NOTES
from app.admin.pipeline_stages import service as stages
from app.admin.pipeline_stages.queries import PIPELINE_STAGES
from app.admin.projects import service as projects
from app.admin.projects.queries import PROJECTS
from app.admin.report_schedules import service as report_schedules
from app.admin.report_schedules.queries import REPORT_SCHEDULES
from app.admin.settings.queries import SETTINGS
from app.admin.tags import service as tags
from app.admin.tags.queries import TAGS
from app.admin.webhooks import service as webhooks
from app.admin.webhooks.queries import WEBHOOKS
from app.records import history
from app.records.audit_values import ResourceType
from app.records.history import Entry, Values
from app.records.repository import Repository
from app.records.resources import QUOTAS, RESOURCES, references, refusal_of
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.settings import Settings
from app.web import strict_json
from app.web.errors import MAX_FAULTS, AppError, Code, bad_field
from app.web.preconditions import Precondition

MOST_CHANGES = 1000
# Refusals that are about one change, and not about who asks.
OF_ONE_CHANGE = {400, 404, 409}
# These fields need more than the right to change the record.
FIELD_PERMISSIONS = {
    "assigned_to": Permission.MANAGE_ALL,
    "owner_id": Permission.MANAGE_ALL,
    "hold": Permission.CONFIGURE,
}


RemoveMany: TypeAlias = Callable[[Transaction, Collection[int]], Awaitable[object]]


class Undoable(NamedTuple):
    """How a kind of record is removed and restored, and the rights that this needs."""

    repository: Repository[Any]
    remove: Callable[[Transaction, int, datetime | None], Awaitable[object]]
    restore: Callable[[Transaction, int], Awaitable[object]]
    change: Permission = Permission.WRITE
    removal: Permission = Permission.DELETE
    # Removes records by one statement, if nothing has to be looked at for each.
    remove_many: RemoveMany | None = None


def _with_trash(repository: TrashRepository[Any], removal: Permission = Permission.DELETE) -> Undoable:
    return Undoable(
        repository, repository.trash, repository.restore, removal=removal, remove_many=repository.trash_many
    )


def _without_trash(
    repository: Repository[Any],
    remove: Callable[[Transaction, int], Awaitable[object]] | None = None,
    *,
    change: Permission = Permission.CONFIGURE,
    removal: Permission = Permission.CONFIGURE,
) -> Undoable:
    async def removed(tx: Transaction, record_id: int, _: datetime | None) -> None:
        assert remove is not None, "the first request makes it, unaudited"  # noqa: S101
        await remove(tx, record_id)

    return Undoable(repository, removed, repository.get, change, removal)


KINDS = {
    each.repository.resource.kind: each
    for each in (
        _with_trash(CUSTOMERS),
        Undoable(CONTACTS, contacts.trash, contacts.restore),
        _with_trash(DEALS),
        _with_trash(PROJECTS),
        _with_trash(ACTIVITIES),
        _with_trash(NOTES, Permission.WRITE),  # agents delete their own
        _with_trash(ATTACHMENTS),
        _without_trash(TAGS, tags.remove),
        _without_trash(PIPELINE_STAGES, stages.remove),
        _without_trash(WEBHOOKS, webhooks.remove),
        _without_trash(REPORT_SCHEDULES, report_schedules.remove, change=Permission.WRITE, removal=Permission.DELETE),
        _without_trash(MEMBERS, members.withdraw),
        _without_trash(SETTINGS),
    )
}
# Others are called by the name that clients see.
SHOWN = {"stage_id": "stage"}


SET_AGAIN = "Access tokens, and the assistant's settings, servers and calls, are not taken back"
# Kinds whose routes are for people only.
FOR_PEOPLE = {WEBHOOKS.resource.kind, MEMBERS.resource.kind}


class Inverse(NamedTuple):
    """What takes one entry back: the fields of an update that get their old values."""

    entry: Entry
    fields: Values


async def undo_entry(
    tx: Transaction, repository: Repository[Any], record_id: int, entry_id: int, settings: Settings
) -> None:
    """Take one change of a record back.

    Raises AppError: not found, AUDIT_NOT_FOUND (400), CHANGED_SINCE, HISTORY_CUT, INSUFFICIENT_PERMISSIONS,
    VERSION_CONFLICT, or as the opposite change.
    """
    entry = await history.get_entry(tx, entry_id)
    kind = repository.resource
    rows = await history.lock_rows(tx, kind, [record_id])
    if record_id not in rows and not (entry and entry.record == (kind.kind, record_id) and entry.deleted_for_good):
        raise repository.not_found()
    undone_deletion = entry is not None and entry.action == "delete" and _just_made(tx, entry, settings)
    in_trash = record_id in rows and rows[record_id].get("deleted_at") is not None
    # Whoever does not see the trash learns nothing of what is there.
    if in_trash and not undone_deletion and not tx.actor.can(Permission.DELETE):
        raise repository.not_found()
    if entry is None or entry.record != (kind.kind, record_id):
        raise _bad_entry()
    if record_id in rows:
        tx.precondition.check(rows[record_id]["version"])
    # What came with the record, such as its contacts when it was restored, was not added since.
    await Undo(tx, [entry], settings, companions=await history.companions(tx, entry_id)).run()


class Undo:
    """One undo. `kept` is what could not be taken back; `changed` counts the entries that were."""

    def __init__(
        self,
        tx: Transaction,
        entries: Sequence[Entry],
        settings: Settings,
        *,
        keep: bool = False,
        authorized: bool = False,
        companions: Iterable[tuple[str, int]] = (),
        most: int = MOST_CHANGES,
    ) -> None:
        self.kept: list[Kept] = []
        self.changed = 0
        self._tx = tx
        self._settings = settings
        self._keep = keep
        # Whoever asks need not have the rights for it.
        self._authorized = authorized
        self._most = most
        self._entries = entries
        self._own = {*companions, *(entry.record for entry in entries)}
        # The records as they are, and then as they will be.
        self._state: dict[tuple[str, int], Values] = {}
        # New records that stay, because others have added something, let stay what they belong to.
        self._stays: dict[tuple[str, int], str] = {}
        # Records of which a later change could not be taken back: earlier ones stay too.
        self._failed: set[tuple[str, int]] = set()
        # Contacts that deals refer to which stay where the contact is now.
        self._bound: set[int] = set()

    async def run(self) -> None:
        """Do it. Raises AppError."""
        # The precondition was looked at; it is about the record as it was before.
        self._tx.precondition = Precondition(())
        if any(entry.kind == MEMBERS.resource.kind for entry in self._entries):
            # Whoever is let in again makes new access tokens: those that ended stay so.
            self._entries = [entry for entry in self._entries if entry.kind != ResourceType.ACCESS_TOKEN]
        if any(entry.kind not in KINDS for entry in self._entries):
            raise AppError(Code.HISTORY_CUT, SET_AGAIN)
        if any(entry.action not in INVERSES for entry in self._entries):
            raise AppError(Code.HISTORY_CUT, "What was purged or erased can't be taken back")
        refuse_programs(self._tx, {entry.kind for entry in self._entries})
        of_stages = any(entry.kind == PIPELINE_STAGES.resource.kind for entry in self._entries)
        if of_stages:
            await stages.prepare_put_back(self._tx)
        await self._lock()
        roots = self._without_followers()
        if len(roots) > self._most:
            raise TooManyError
        for entry in () if self._authorized else roots:
            await self._authorize(entry)
        added = await self._added()
        moves_contacts = await self._bind_contacts()
        inverses = [inverse for entry in reversed(roots) if (inverse := self._invert(entry, added))]
        if self.kept and not self._keep:
            raise self._changed_since()
        if moves_contacts:
            await self._tx.connection.execute(history.DEFER_CONTACTS_OF_DEALS)
        if not (self._keep and await self._fits_whole(inverses)):
            for inverse in inverses:
                await self._apply(inverse)
        if moves_contacts:
            await self._check_contacts()
        if of_stages:
            await stages.settle(self._tx)

    async def _lock(self) -> None:
        ids: dict[str, set[int]] = defaultdict(set)
        for entry in self._entries:
            ids[entry.kind].add(entry.record_id)
        for resource in RESOURCES:  # in the order of locking
            if resource.kind in ids:
                rows = await history.lock_rows(self._tx, resource, ids[resource.kind])
                self._state |= {(resource.kind, record_id): row for record_id, row in rows.items()}

    def _without_followers(self) -> list[Entry]:
        """The entries but those of records that were trashed or restored with another one: they follow it again."""
        led: set[tuple[str, str, int, Any]] = set()
        roots = []
        for entry in self._entries:
            since = _trashed_at(entry)
            row = self._state.get(entry.record, {})
            parents = _parents(entry, row)
            if since is None or not any((entry.action, *parent, since) in led for parent in parents):
                roots.append(entry)
            if since is not None:
                led.add((entry.action, *entry.record, since))
        return roots

    async def _authorize(self, entry: Entry) -> None:
        """Raise AppError unless this person may make the opposite change, or made this one just now."""
        tx, undoable = self._tx, KINDS[entry.kind]
        row = self._state.get(entry.record)
        if row is not None:
            await undoable.repository.ensure_own(tx, entry.record_id)
        elif not entry.deleted_for_good and tx.own_records_only:
            raise AppError(Code.OPERATION_NOT_FOUND)
        # Whoever was narrowed just now gives nobody their rights back.
        if entry.kind != MEMBERS.resource.kind and _just_made(tx, entry, self._settings):
            return
        restores = entry.action == "delete" and not entry.deleted_for_good
        removal = Permission.DELETE if restores else undoable.removal
        tx.actor.require(undoable.change if entry.action in {"update", "merge"} else removal)
        if entry.action not in {"update", "merge"}:
            return
        for field in FIELD_PERMISSIONS.keys() & (entry.new or {}):
            tx.actor.require(FIELD_PERMISSIONS[field])
        if entry.kind == DEALS.resource.kind and "stage_id" in (entry.new or {}):
            here, to = (values["stage_id"] for values in (entry.new or {}, entry.old or {}))
            await deals.require_move(tx, here, to, self._settings.rollback_roles)

    async def _added(self) -> dict[tuple[str, int], str]:
        """By record that the operation made or restored: a kind of live record that others have added to it since."""
        came: dict[tuple[str, str], set[int]] = defaultdict(set)
        own: dict[str, set[int]] = defaultdict(set)
        for kind, record_id in self._own:
            own[kind].add(record_id)
        for entry in self._entries:
            if entry.action in {"create", "restore"}:
                came[entry.kind, entry.action].add(entry.record_id)
        added: dict[tuple[str, int], str] = {}
        async with history.seeing_all(self._tx):
            for (kind, action), ids in came.items():
                resource = KINDS[kind].repository.resource
                # What only names a record may have done so while that was in the trash.
                found = await history.added_to(self._tx, resource, sorted(ids), own, belongs=action == "restore")
                added |= {(kind, record_id): child for record_id, child in found.items()}
        return added

    async def _bind_contacts(self) -> bool:
        """Whether contacts go back to another customer, as after a merge. One that other deals refer to stays: those
        that were made since, or that do not go back with it.
        """
        moved = [entry.record_id for entry in self._entries if entry.kind == CONTACTS.resource.kind and _moves(entry)]
        if moved:
            deals_going_back = [
                entry.record_id
                for entry in self._entries
                if entry.kind == DEALS.resource.kind and _moves(entry) and self._is_as_left(entry)
            ]
            async with history.seeing_all(self._tx):
                self._bound = await history.contacts_of_other_deals(self._tx, moved, deals_going_back)
        return bool(moved)

    def _is_as_left(self, entry: Entry) -> bool:
        """Whether the record is live, and still where the change moved it."""
        row = self._state.get(entry.record, {})
        return row.get("deleted_at") is None and row.get("customer_id") == (entry.new or {})["customer_id"]

    # ── what is to be done ───────────────────────────────────────────────────────────────────────────────────────────

    def _invert(self, entry: Entry, added: dict[tuple[str, int], str]) -> Inverse | None:
        """What takes an entry back; None if there is nothing to do, or nothing that may be done."""
        row = self._state.get(entry.record)
        return INVERSES[entry.action](self, entry, row, added)

    def _invert_create(self, entry: Entry, row: Values | None, added: dict[tuple[str, int], str]) -> Inverse | None:
        if row is None or row.get("deleted_at") is not None:
            return None
        fields = [name for name, value in (entry.new or {}).items() if name in row and not _same(row[name], value)]
        child = added.get(entry.record) or self._stays.get(entry.record)
        if child:
            fields.append(_many(child))
        if fields:
            self._stays |= dict.fromkeys(_parents(entry, row), entry.kind)
            self._leave(entry, fields)
            return None
        row["deleted_at"] = ""
        return Inverse(entry, {})

    def _invert_update(self, entry: Entry, row: Values | None, _: object) -> Inverse | None:
        old, new = entry.old or {}, entry.new or {}
        if row is None:
            self._leave(entry, ["id"])
            return None
        since = row.get("deleted_at")
        if since and _time(since) > entry.created_at:
            self._leave(entry, ["deleted_at"])
            return None
        wrong = {name for name in new if not _same(row.get(name), new[name]) and not _same(row.get(name), old[name])}
        if entry.kind == CONTACTS.resource.kind and entry.record_id in self._bound:
            wrong |= {"customer_id"} & new.keys()
        for group in KINDS[entry.kind].repository.resource.together:
            if wrong & group:
                wrong |= group & new.keys()
        if wrong:
            self._leave(entry, sorted(wrong))
        # A token that was refused once is not accepted again.
        stays = wrong | ({"signed_out_at"} if entry.kind == MEMBERS.resource.kind else set())
        fields = {name: old[name] for name in new if name not in stays and not _same(row.get(name), old[name])}
        row |= fields
        return Inverse(entry, fields) if fields else None

    def _invert_delete(self, entry: Entry, row: Values | None, _: object) -> Inverse | None:
        if entry.deleted_for_good:
            if row is not None:
                return None
            self._state[entry.record] = dict(entry.old or {})
            return Inverse(entry, {})
        if row is not None and row["deleted_at"] is None:
            return None
        if row is None or not _same(row["deleted_at"], (entry.new or {})["deleted_at"]):
            self._leave(entry, ["deleted_at"])
            return None
        row["deleted_at"] = None
        return Inverse(entry, {})

    def _invert_restore(self, entry: Entry, row: Values | None, added: dict[tuple[str, int], str]) -> Inverse | None:
        if row is None or row["deleted_at"] is not None:
            return None
        together = [each for each in self._entries if _trashed_at(each) == _trashed_at(entry)]
        if children := {_many(added[each.record]) for each in together if each.record in added}:
            self._leave(entry, sorted(children))
            return None
        old, new = entry.old or {}, entry.new or {}
        row |= {name: old[name] for name in new if _same(row.get(name), new[name])}
        return Inverse(entry, {name: row[name] for name in new if name != "deleted_at"})

    def _leave(self, entry: Entry, fields: Iterable[str]) -> None:
        kind = ResourceType(entry.kind)
        self.kept.extend(Kept(kind, entry.record_id, SHOWN.get(name, name)) for name in fields)

    def _changed_since(self) -> AppError:
        fields = [
            ({"resource_type": each.resource_type, "resource_id": each.resource_id} if len(self._entries) > 1 else {})
            | {"field": each.field, "message": "was changed since"}
            for each in self.kept[:MAX_FAULTS]
        ]
        more = {"more": len(self.kept) - MAX_FAULTS} if len(self.kept) > MAX_FAULTS else {}
        return AppError(Code.CHANGED_SINCE, data={"fields": fields} | more)

    # ── doing it ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _apply(self, inverse: Inverse) -> None:
        if not self._keep:
            await self._write(inverse)
            self.changed += 1
        elif inverse.entry.record in self._failed:
            self._leave(inverse.entry, inverse.fields or ["deleted_at"])
        else:
            await self._apply_what_fits(inverse)

    async def _fits_whole(self, inverses: Sequence[Inverse]) -> bool:
        """Do all at once, as it most often can be done; False, and nothing is done, where something is refused."""
        try:
            async with self._tx.savepoint():
                for remove_many, several in groupby(inverses, _remove_many):
                    if remove_many is not None:
                        await self._remove(remove_many, [inverse.entry.record_id for inverse in several])
                        continue
                    for inverse in several:
                        await self._write(inverse)
        except AppError as error:
            if error.status not in OF_ONE_CHANGE:
                raise
            return False
        self.changed += len(inverses)
        return True

    async def _apply_what_fits(self, inverse: Inverse) -> None:
        """Leave what is refused; of several fields, the others still go back."""
        entry = inverse.entry
        try:
            async with self._tx.savepoint():
                await self._write(inverse)
        except AppError as error:
            if error.status not in OF_ONE_CHANGE:
                raise
            self._failed.add(entry.record)
            refused = error.fields if isinstance(error, Conflict) else inverse.fields.keys()
            self._leave(entry, refused or ["deleted_at"])
            rest = {name: value for name, value in inverse.fields.items() if name not in refused}
            if rest and len(rest) < len(inverse.fields):
                await self._apply_what_fits(Inverse(entry, rest))
        else:
            self.changed += 1

    async def _write(self, inverse: Inverse) -> None:
        """Raises AppError for what the rules or the database refuse."""
        tx, entry = self._tx, inverse.entry
        undoable = KINDS[entry.kind]
        kind = undoable.repository.resource
        try:
            if entry.action == "create":
                await undoable.remove(tx, entry.record_id, None)
            elif entry.action == "restore":
                await undoable.remove(tx, entry.record_id, _time((entry.old or {})["deleted_at"]))
            elif entry.deleted_for_good:
                await undoable.repository.check_room(tx)
                await history.insert_back(tx, kind, entry)
            elif entry.action == "delete":
                await undoable.restore(tx, entry.record_id)
            if inverse.fields:
                await undoable.repository.require_live(tx, inverse.fields)
                await history.write_back(tx, kind, entry.record_id, inverse.fields)
                if check := CHECKS.get(entry.kind):
                    await check(tx, self._state[entry.record], inverse.fields)
        except IntegrityError as error:
            raise _refusal(error, inverse.fields) from error

    async def _remove(self, remove_many: RemoveMany, ids: Sequence[int]) -> None:
        """Raises AppError for what the rules or the database refuse."""
        try:
            await remove_many(self._tx, ids)
        except IntegrityError as error:
            raise _refusal(error, {}) from error

    async def _check_contacts(self) -> None:
        """Raise AppError if a deal has a contact of another customer now."""
        try:
            await self._tx.connection.execute(history.CHECK_CONTACTS_OF_DEALS)
        except IntegrityError as error:
            raise Conflict(error.diag.constraint_name or "", {"customer_id": None}) from error


def _remove_many(inverse: Inverse) -> RemoveMany | None:
    """What takes this and others back together."""
    return KINDS[inverse.entry.kind].remove_many if inverse.entry.action == "create" else None


class Conflict(AppError):
    """A constraint refuses values that a record had: what was changed since does not fit to them."""

    def __init__(self, constraint: str, values: Values) -> None:
        # A constraint that is named after some of the fields is about those.
        named = [name for name in values if name.removeprefix("is_").removesuffix("_id") in constraint]
        self.fields = set(named or values)
        refusal = refusal_of(constraint)
        message = "does not fit to what was changed since, such as a value that another record has by now"
        faults = [{"field": SHOWN.get(name, name), "message": message} for name in sorted(self.fields)]
        code, text = (Code.CHANGED_SINCE, None) if refusal is None else (refusal.code, refusal.message)
        super().__init__(code, text, status=409, data={"fields": faults})


def _refusal(error: IntegrityError, values: Values) -> AppError:
    """What the database means: a limit of the organization, or that these values do not fit any more."""
    constraint = error.diag.constraint_name or ""
    limit = refusal_of(constraint, error.diag.message_detail) if constraint in QUOTAS else None
    return limit or Conflict(constraint, values)


INVERSES: dict[str, Callable[[Undo, Entry, Values | None, dict[tuple[str, int], str]], Inverse | None]] = {
    "create": Undo._invert_create,
    "update": Undo._invert_update,
    "merge": Undo._invert_update,
    "delete": Undo._invert_delete,
    "restore": Undo._invert_restore,
}
# What the rules say about a record, as it is when these fields are put back.
CHECKS: dict[str, Callable[[Transaction, Values, Values], Awaitable[None]]] = {
    DEALS.resource.kind: deals.check_put_back,
    PROJECTS.resource.kind: projects.check_put_back,
    ACTIVITIES.resource.kind: activities.check_put_back,
    WEBHOOKS.resource.kind: webhooks.check_put_back,
}


def _trashed_at(entry: Entry) -> Any:
    """The moment of the trashing that an entry is, or takes back; None for any other change."""
    values = entry.new if entry.action == "delete" else entry.old if entry.action == "restore" else None
    return (values or {}).get("deleted_at")


def _parents(entry: Entry, row: Values) -> list[tuple[str, int]]:
    """The records that a record goes into the trash with."""
    resource = KINDS[entry.kind].repository.resource
    return [
        (target.kind, row[column])
        for column, target in references(resource)
        if column in resource.parents and row.get(column)
    ]


def _moves(entry: Entry) -> bool:
    """Whether it is a change of the customer that a record belongs to."""
    return entry.action == "update" and "customer_id" in (entry.new or {})


def _just_made(tx: Transaction, entry: Entry, settings: Settings) -> bool:
    """Whether this person made the change some minutes ago, and so may take it back."""
    age = datetime.now(UTC) - entry.created_at
    return entry.user_id == tx.actor.reference and age < timedelta(minutes=settings.undo_minutes)


def _many(kind: str) -> str:
    """What clients call several records of a kind."""
    return str(KINDS[kind].repository.resource.table.name)


class TooManyError(AppError):
    """One transaction changed more than can be taken back in one."""

    def __init__(self) -> None:
        message = f"At most {MOST_CHANGES} changes of one transaction can be taken back: undo those of single records"
        super().__init__(Code.TOO_MANY_RECORDS, message, data={"max": MOST_CHANGES})


def _same(present: Any, other: Any) -> bool:
    return strict_json.encode_sorted(present) == strict_json.encode_sorted(other)


def _time(text: str) -> datetime:
    return convert(text, datetime)


def _bad_entry() -> AppError:
    return bad_field(Code.AUDIT_NOT_FOUND, "entry_id", "This is not a version of the record")


def refuse_programs(tx: Transaction, kinds: set[str]) -> None:
    """Raise AppError for a program that would undo what only people may do."""
    if tx.actor.is_program and not FOR_PEOPLE.isdisjoint(kinds):
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, "An access token may not undo this: log in and do it yourself")
