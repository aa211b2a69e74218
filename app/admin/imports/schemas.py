"""Imports as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from msgspec import UNSET, Struct

from app.files.unpacked import FileFormat
from app.web.multipart import FilePart
from app.web.paging import ListQuery, UserFilter
from app.web.structs import Maybe, View


class ImportKind(StrEnum):
    """What the rows of a file become."""

    CUSTOMERS = "customers"
    CONTACTS = "contacts"
    DEALS = "deals"
    PROJECTS = "projects"
    ACTIVITIES = "activities"
    NOTES = "notes"


class ImportStatus(StrEnum):
    """Where an import is."""

    UPLOADED = "uploaded"
    CHECKING = "checking"
    CHECKED = "checked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ImportFile(FilePart):
    """The file, and what its rows become."""

    limited_by: ClassVar[str] = "import_max_bytes"
    choices: ClassVar[Mapping[str, type[StrEnum]]] = {"kind": ImportKind}


class ImportColumn(Struct):
    """A column of the file. `field` is our guess of what it is, null if we have none; `confidence` is from 0 to 1."""

    name: str
    samples: list[str]
    field: str | None
    confidence: float


class ImportSummary(Struct):
    """What a run would do with the rows: each is in one of the first five. `warning` counts those with remarks."""

    create: int
    update: int
    unchanged: int
    skip: int
    error: int
    warning: int


class ImportBrief(View):
    """An import as lists have it: without what may be long, such as the columns of its file."""

    id: int
    status: ImportStatus
    kind: ImportKind
    file_name: str
    format: FileFormat
    encoding: str | None
    delimiter: str | None
    sheet: str | None
    header: bool
    rows: int
    summary: ImportSummary | None
    job_id: int | None
    operation_id: UUID | None
    user_id: int | str
    user_name: str | None
    created_at: datetime
    updated_at: datetime


class Import(ImportBrief):
    """A file of rows: how it was read, and what is to be done with it. `remarks` are sentences about the reading."""

    columns: list[ImportColumn]
    remarks: list[str]
    mapping: dict[str, str | None] | None
    options: dict[str, Any] | None


class ImportSort(StrEnum):
    """Lists of imports have one order."""

    CREATED_AT = "created_at"


class ImportQuery(ListQuery):
    """Filters of a list of imports."""

    sort_by: Maybe[ImportSort] = UNSET
    kind: Maybe[list[ImportKind]] = UNSET
    status: Maybe[list[ImportStatus]] = UNSET
    user_id: Maybe[UserFilter] = UNSET
