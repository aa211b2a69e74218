"""What must be true of the database before the service answers anybody."""

from __future__ import annotations

import structlog
from sqlalchemy import text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db.transaction import Database, Origin
from app.web.errors import AppError

log = structlog.get_logger("startup")


class UnsafeRoleError(Exception):
    """The database would not keep tenants apart for this login."""


async def check_role(database: Database) -> None:
    """Refuse to start as a role that row-level security does not bind. A database that is away is for /ready to say.

    Raises UnsafeRoleError.
    """
    nobody = Actor(user_id="startup", tenant_id="startup", role=Role.ADMIN)
    try:
        async with database.transaction(nobody, Origin(), read_only=True) as tx:
            powers = await tx.connection.execute(
                text("""
                    SELECT current_user,
                           rolsuper OR rolbypassrls
                           OR EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p') AND relowner = pg_roles.oid)
                    FROM pg_roles WHERE rolname = current_user
                """)
            )
            role, unbound = powers.one()
    except AppError:
        log.warning("the database can't be reached yet")
        return
    if unbound:
        raise UnsafeRoleError(
            f"The role {role} is a superuser, owns tables or bypasses row-level security: tenants would not be apart"
        )
