"""How many rows there are, kept by triggers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class RecordCount(Base):
    """How many live rows a table has. The sum over all rows of a facet counts: each writer changes one of its own."""

    __tablename__ = "record_counts"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    counted: Mapped[str] = mapped_column(Text, primary_key=True)
    # A part of the rows that is counted by itself, such as a status.
    facet: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
