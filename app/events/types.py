"""The types of events. Each audit entry is one event, which has the type of its record and action, and often others.

The database says which types an entry has, by the conditions here, so that what a filter finds and what an event says
can't differ. The documentation has its table from here, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, literal_column, not_, null, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.types import BigInteger

from app.models import AuditEntry, PipelineStage
from app.records.audit_values import AuditAction, ResourceType
from app.web.fields import Refused

ANY = "*"
# By action: what has become of the record.
VERBS = {
    AuditAction.CREATE: "created",
    AuditAction.UPDATE: "updated",
    AuditAction.DELETE: "deleted",
    AuditAction.RESTORE: "restored",
    AuditAction.PURGE: "purged",
    AuditAction.MERGE: "merged",
    AuditAction.ERASE: "erased",
    AuditAction.EXPORT: "exported",
    AuditAction.IMPORT: "finished",
    AuditAction.CALL: "called",
}
# What happens to one kind of record alone, and when.
ALONE = {
    "import.finished": "the run of an import is done: `changes` has its figures",
    "mcp_server.called": "a tool of this server was called for a person: `changes` has its name",
}

entry = AuditEntry.__table__.c
stage = PipelineStage.__table__.c


class Derived(NamedTuple):
    """A type that some creations and updates of a kind of record have beside their own."""

    name: str
    when: str
    condition: ColumnElement[bool]


def _literal(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'", Text)


def _one_of(column: ColumnElement[Any], *texts: str) -> ColumnElement[bool]:
    return or_(*(column == _literal(text) for text in texts))


def _old(field: str) -> ColumnElement[Any]:
    return entry.old_values.op("->>", return_type=Text())(_literal(field))


def _new(field: str) -> ColumnElement[Any]:
    """For an update, the log has only the fields that differ."""
    return entry.new_values.op("->>", return_type=Text())(_literal(field))


def _stage_kind(stage_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """A stage that deals are or were in keeps its kind."""
    of_stage = (stage.tenant_id == entry.tenant_id, stage.id == cast(stage_id, BigInteger))
    return select(stage.kind).where(*of_stage).scalar_subquery()


def _enters(kind: str) -> ColumnElement[bool]:
    now, before = _stage_kind(_new("stage_id")), _stage_kind(_old("stage_id"))
    return and_(_one_of(now, kind), before.is_distinct_from(_literal(kind)))


# The most special ones first.
MILESTONES = (
    Derived("deal.won", "it came into a stage of the kind `won`", _enters("won")),
    Derived("deal.lost", "it came into a stage of the kind `lost`", _enters("lost")),
    Derived(
        "deal.reopened",
        "it went from a stage of the kind `won` or `lost` to an open one",
        and_(_one_of(_stage_kind(_old("stage_id")), "won", "lost"), _one_of(_stage_kind(_new("stage_id")), "open")),
    ),
    Derived("deal.stage_changed", "it moved to another stage", _old("stage_id").is_not(None)),
    Derived("project.completed", "its status became `completed`", _one_of(_new("status"), "completed")),
    Derived("activity.completed", "its status became `completed`", _one_of(_new("status"), "completed")),
)
# Less special than a creation, since most records are somebody's from the beginning.
HANDOVERS = (
    Derived("customer.assigned", "`assigned_to` became somebody", _new("assigned_to").is_not(None)),
    Derived("deal.assigned", "`owner_id` became somebody", _new("owner_id").is_not(None)),
    Derived("project.assigned", "`owner_id` became somebody", _new("owner_id").is_not(None)),
    Derived("activity.assigned", "`assigned_to` became somebody", _new("assigned_to").is_not(None)),
)
DERIVED = (*MILESTONES, *HANDOVERS)
KINDS = tuple(kind for kind in ResourceType if kind is not ResourceType.IMPORT)
CHANGES = tuple(verb for action, verb in VERBS.items() if action not in {AuditAction.IMPORT, AuditAction.CALL})
NAMES = (*(each.name for each in DERIVED), *(f"{kind}.{verb}" for kind in KINDS for verb in CHANGES), *ALONE)


def _where_it_applies(derived: Derived) -> ColumnElement[Any]:
    """The name, or null. The condition is looked at for this kind of record only."""
    kind, _, _ = derived.name.partition(".")
    is_written = _one_of(entry.action, AuditAction.CREATE, AuditAction.UPDATE)
    condition = case((and_(_one_of(entry.resource_type, kind), is_written), derived.condition))
    return case((condition, _literal(derived.name)), else_=null())


_verb = case(*((_one_of(entry.action, action), _literal(verb)) for action, verb in VERBS.items()))
_own = entry.resource_type + _literal(".") + _verb
_is_update = _one_of(entry.action, AuditAction.UPDATE)
# All types of an entry, the most special first: an update is the most general.
TYPES: ColumnElement[list[str]] = func.array_remove(
    array(
        [
            *(_where_it_applies(derived) for derived in MILESTONES),
            case((not_(_is_update), _own)),
            *(_where_it_applies(derived) for derived in HANDOVERS),
            case((_is_update, _own)),
        ]
    ),
    null(),
    type_=ARRAY(Text),
)


def patterns_of(types: ColumnElement[list[str]]) -> ColumnElement[list[str]]:
    """The types, and all patterns that match any of them."""
    each = func.unnest(types).column_valued("each")
    of_verb = select(func.array_agg(_literal(f"{ANY}.") + func.split_part(each, _literal("."), 2)))
    of_kind = func.split_part(types[1], _literal("."), 1) + _literal(f".{ANY}")
    general = array([of_kind, _literal(ANY), _literal(f"{ANY}.{ANY}")])
    return func.array_cat(func.array_cat(types, of_verb.scalar_subquery()), general, type_=ARRAY(Text))


def matching(patterns: Iterable[str]) -> list[str]:
    """The types that any of these patterns matches: `deal.won`, `deal.*`, `*.deleted` or `*`."""
    wanted = [("*.*" if pattern == ANY else pattern).split(".") for pattern in patterns]
    return [name for name in NAMES if any(_fits(name.split("."), parts) for parts in wanted)]


def _fits(name: list[str], wanted: list[str]) -> bool:
    return len(name) == len(wanted) and all(want in {ANY, part} for part, want in zip(name, wanted, strict=True))


def actions_behind(names: Iterable[str]) -> list[str]:
    """The actions of all entries that can have any of these types."""
    verbs = {name.partition(".")[2] for name in names}
    written = {AuditAction.CREATE, AuditAction.UPDATE} if verbs - set(VERBS.values()) else set()
    return sorted({action for action, verb in VERBS.items() if verb in verbs} | written)


def check_pattern(pattern: str) -> str:
    """The pattern as it is. Raises Refused if no type matches it."""
    if not matching([pattern]):
        raise Refused("must be a type of events, such as deal.won, or a pattern, such as deal.* or *.deleted")
    return pattern
