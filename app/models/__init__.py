"""The tables, as the migrations make them."""

from app.models.audit import AuditEntry
from app.models.base import Base, Record, SoftDeleted, UserReference
from app.models.customers import Customer, CustomerTag, Tag
from app.models.idempotency import IdempotencyKey
from app.models.tenants import TenantSettings, User

__all__ = [
    "AuditEntry",
    "Base",
    "Customer",
    "CustomerTag",
    "IdempotencyKey",
    "Record",
    "SoftDeleted",
    "Tag",
    "TenantSettings",
    "User",
    "UserReference",
]
