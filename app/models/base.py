"""What every table has in common."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Dialect,
    FetchedValue,
    ForeignKeyConstraint,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from app.web.structs import present_user


class UserReference(TypeDecorator[int | str]):
    """The id of a person in the CMS, opaque text of at most 64 characters, read as docs/api.md#answers says."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | str | None, dialect: Dialect) -> str | None:  # noqa: ARG002, D102
        return None if value is None else str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], int | str | None]:  # noqa: ARG002, D102
        return lambda user: None if user is None else present_user(user)


class UserReferences(TypeDecorator[list[int | str]]):
    """The ids of several people."""

    impl = ARRAY(Text)
    cache_ok = True

    def process_bind_param(self, value: list[int | str] | None, dialect: Dialect) -> list[str] | None:  # noqa: ARG002, D102
        return None if value is None else [str(user) for user in value]

    def process_result_value(self, value: list[str] | None, dialect: Dialect) -> list[int | str] | None:  # noqa: ARG002, D102
        return None if value is None else [present_user(user) for user in value]


class Base(DeclarativeBase):
    """The one metadata that migrations are compared with."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
        }
    )
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text()}  # noqa: RUF012 -- read by SQLAlchemy


def table_of(model: type[Base]) -> Table:
    """Where the rows of a model are. A model could be of a subquery, too; none of ours is."""
    table = model.__table__
    assert isinstance(table, Table)  # noqa: S101 -- see above
    return table


class Record(Base):
    """A row of one tenant. The database's triggers keep `version` and `updated_at`, and write the audit entry."""

    __abstract__ = True

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), server_onupdate=FetchedValue())
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"), server_onupdate=FetchedValue())


class SoftDeleted:
    """In the trash while `deleted_at` is set."""

    deleted_at: Mapped[datetime | None]


class Imported(SoftDeleted):
    """A record that a client may give an id of its own, and that has a trash."""

    external_id: Mapped[str | None] = mapped_column(String(255))


class Mergeable:
    """A record that others can be merged into. Those are in the trash then, and name the one that was kept."""

    merged_into: Mapped[int | None] = mapped_column(BigInteger)
    merged_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))


def reference(table: str, column: str, target: str) -> ForeignKeyConstraint:
    """A reference to a record of the same tenant, since foreign keys ignore row-level security."""
    name = f"{table}_{column.removesuffix('_id')}_fkey"
    return ForeignKeyConstraint(["tenant_id", column], [f"{target}.tenant_id", f"{target}.id"], name=name)
