"""What operators do regularly."""

from datetime import datetime

from sqlalchemy import String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Routine(Base):
    """When a piece of regular work was last done: rows without a tenant, which only functions of the database use."""

    __tablename__ = "routines"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True, server_default=text("''"))
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    done_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
