"""What the audit log says about a change, as clients see it: values are shown as the records' own answers show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, case, cast, func, select
from sqlalchemy.types import BigInteger

from app.models import PipelineStage, Record, UserReference, UserReferences
from app.web.structs import present_user

Values = dict[str, Any] | None


class AuditAction(StrEnum):
    """What happened to a record."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RESTORE = "restore"
    PURGE = "purge"
    MERGE = "merge"
    ERASE = "erase"
    EXPORT = "export"
    IMPORT = "import"
    CALL = "call"


class ResourceType(StrEnum):
    """The kinds of record whose changes are audited. When old entries are deleted, the log says so of itself; and
    of imports it says that they are done.
    """

    CUSTOMER = "customer"
    CONTACT = "contact"
    PIPELINE_STAGE = "pipeline_stage"
    DEAL = "deal"
    PROJECT = "project"
    ACTIVITY = "activity"
    NOTE = "note"
    ATTACHMENT = "attachment"
    TAG = "tag"
    WEBHOOK = "webhook"
    REPORT_SCHEDULE = "report_schedule"
    MEMBER = "member"
    SETTINGS = "settings"
    ASSISTANT_SETTINGS = "assistant_settings"
    MCP_SERVER = "mcp_server"
    ACCESS_TOKEN = "access_token"  # noqa: S105 -- a name
    AUDIT_LOG = "audit_log"
    IMPORT = "import"


class Difference(Struct):
    """A field before and after; null where there was, or is, nothing."""

    old: Any
    new: Any


def _presenter(column_type: Any) -> Callable[[Any], Any] | None:
    """How a stored JSON value of such a column is shown, if not as it is stored."""
    if isinstance(column_type, UserReference):
        return present_user
    if isinstance(column_type, UserReferences):
        return lambda people: [present_user(person) for person in people]
    if column_type.python_type is Decimal:
        return _without_zeros
    return _as_time if column_type.python_type is datetime else None


def _as_time(text: str) -> datetime | str:
    """A time as records show it. Old entries may have years that Python does not know: they stay as they are stored."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return text


def _without_zeros(amount: Decimal | int) -> Decimal:
    """An amount without the zeros that it is stored with."""
    whole, plain = Decimal(amount).to_integral_value(), Decimal(amount).normalize()
    return whole if plain == whole else plain


# Column names mean the same in every table, so one map serves all resource types.
PRESENTERS = {
    column.name: presenter
    for record in Record.__subclasses__()
    for column in record.__table__.columns
    if (presenter := _presenter(column.type)) is not None
}
stage = PipelineStage.__table__.c


def with_stage_name(values: ColumnElement[Any]) -> ColumnElement[Any]:
    """A deal's row has the id of its stage; clients see its name."""
    name = select(stage.name).where(stage.id == cast(values["stage_id"].astext, BigInteger)).scalar_subquery()
    named = values.op("-")("stage_id").op("||")(func.jsonb_build_object("stage", name))
    return case((values.has_key("stage_id"), named), else_=values).label(None)


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values as answers show them."""
    return {
        name: value if value is None or name not in PRESENTERS else PRESENTERS[name](value)
        for name, value in values.items()
        # Records do not show it: only a merge says what was merged.
        if name != "merged_ids" or value is not None
    }


def differences(old: Values, new: Values) -> dict[str, Difference]:
    """Each field before and after. For an update, the log has what differs; of a whole record, empty fields are left
    out.
    """
    before, after = old or {}, new or {}
    whole = not (before and after)
    return {
        name: Difference(before.get(name), after.get(name))
        for name in after or before
        if not whole or (after or before)[name] is not None
    }
