"""How many rows there are: counted by triggers."""

from sqlalchemy import BigInteger, Identity, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class RecordCount(Base):
    """How many live rows a table has: the sum over a facet's rows, since concurrent writers change different ones."""

    __tablename__ = "record_counts"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    counted: Mapped[str] = mapped_column(Text, primary_key=True)
    # A group of the rows that is counted separately, such as those of a status.
    facet: Mapped[str] = mapped_column(Text, primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
