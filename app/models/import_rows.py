"""The rows of imports."""

from typing import Any

from sqlalchemy import ARRAY, BigInteger, ForeignKeyConstraint, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class ImportRow(Base):
    """What the check of an import found of one row, and what its run does with it."""

    __tablename__ = "import_rows"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    import_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    record_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int | None] = mapped_column(Integer)
    document: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    problems: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "import_id"],
            ["imports.tenant_id", "imports.id"],
            name="import_rows_import_fkey",
            ondelete="CASCADE",
        ),
    )
