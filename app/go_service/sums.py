"""Counts of records, and a sum over all that they say: of what should be stored, and of what is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import ARRAY, DateTime

from app.models import Activity, Contact, Customer, Deal, Note, PipelineStage, Tag

MODELS = {
    model.__tablename__: model.__table__ for model in (Tag, PipelineStage, Customer, Contact, Deal, Activity, Note)
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# What is compared: all values but JSON, which the database may write in another way, and what the database gives.
GIVEN = {"tenant_id", "id", "version", "origin", "hold", "contact_preferences", "stage_id"}
COMPARED = {
    name: sorted(column.name for column in table.columns if column.computed is None and column.name not in GIVEN)
    for name, table in MODELS.items()
}
COMPARED["deals"] = sorted([*COMPARED["deals"], "stage"])
NOTHING, BETWEEN = "\x02", "\x1f"


class Sum(NamedTuple):
    """What the rows of a table add up to. `check` is over all their values, in any order."""

    rows: int
    in_trash: int
    check: int


class Sums:
    """Adds up the records of a table that should be stored."""

    def __init__(self, table: str) -> None:
        self._table = table
        self.rows = 0
        self.in_trash = 0
        self._check = 0

    def add(self, record_id: int | None, values: Mapping[str, Any]) -> None:
        """Count a record. One without an id gets it from the database."""
        self.rows += 1
        self.in_trash += values.get("deleted_at") is not None
        texts = (_as_text(values.get(name)) for name in COMPARED[self._table])
        line = BETWEEN.join((NOTHING if record_id is None else str(record_id), *texts))
        self._check += int.from_bytes(sha256(line.encode()).digest()[:4])

    @property
    def total(self) -> Sum:
        """The sum so far."""
        return Sum(self.rows, self.in_trash, self._check)


def stored(connection: psycopg.Connection[Any], tenant: str, table: str, highest_id: int) -> Sum:
    """The same of what is stored. Ids above the highest one there were given here, and do not count."""
    columns = MODELS[table].columns
    texts = [f"CASE WHEN id <= {int(highest_id)} THEN id::text ELSE E'\\x02' END"]
    for name in COMPARED[table]:
        text = f'"{name}"::text'
        if name == "stage":
            text = "(SELECT name FROM pipeline_stages AS s WHERE s.tenant_id = t.tenant_id AND s.id = stage_id)"
        elif isinstance(columns[name].type, DateTime):
            text = f"(extract(epoch FROM {name}) * 1000000)::bigint::text"
        elif isinstance(columns[name].type, ARRAY):
            text = f"array_to_string({name}, ',')"
        texts.append(f"coalesce({text}, E'\\x02')")
    line = " || E'\\x1f' || ".join(texts)
    in_trash = "count(deleted_at)" if "deleted_at" in columns else "0"
    query = (
        f"SELECT count(*), {in_trash}, coalesce(sum(('x' || encode(substr(sha256(convert_to({line}, 'UTF8')), 1, 4),"
        f" 'hex'))::bit(32)::bigint), 0)::bigint FROM {table} AS t WHERE tenant_id = %s"
    )
    row = connection.execute(query, [tenant]).fetchone()
    assert row is not None  # noqa: S101 -- an aggregate is one row
    return Sum(*row)


def _as_text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return str((value - EPOCH) // MICROSECOND)
    if isinstance(value, Decimal):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
