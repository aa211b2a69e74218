"""Organizations whose data come from the Go service."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class GoImport(Base):
    """One organization's data on their way here, or arrived. Only `crm import-go` writes it."""

    __tablename__ = "go_imports"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(Text)
    operation_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    closed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # Null while the organization is closed.
    opened_at: Mapped[datetime | None]
    holder_id: Mapped[int] = mapped_column(BigInteger)
    copying: Mapped[str] = mapped_column(Text)
    last_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
