"""The rules that the database keeps by itself, as statements for one table.

Row-level security is forced on the tables' owner too, so a migration that changes rows must lift it for its own
transaction: ALTER TABLE … NO FORCE ROW LEVEL SECURITY, and back.
"""

from alembic import op

NEVER_AUDITED = ("tenant_id", "version", "updated_at")


def run(statements: str) -> None:
    """Execute SQL as it stands: neither ':name' nor '%' means anything but itself."""
    op.get_bind().connection.cursor().execute(statements)


def isolate(table: str) -> str:
    """Every statement sees and writes the rows of the transaction's tenant only; without a tenant, none."""
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table}
            USING (tenant_id = current_setting('crm.tenant', true))
            WITH CHECK (tenant_id = current_setting('crm.tenant', true));
    """


def own_only(table: str) -> str:
    """People limited to their own records read as crm_service_own; `crm_is_own(row)` says what is theirs."""
    return f"""
        CREATE POLICY own ON {table} AS RESTRICTIVE FOR SELECT TO crm_service_own USING (crm_is_own({table}));
    """


def versioned(table: str, derived: tuple[str, ...] = ()) -> str:
    """Each real change of a row raises its version. `derived` are columns that the database computes."""
    return f"""
        CREATE TRIGGER version BEFORE UPDATE ON {table}
            FOR EACH ROW EXECUTE FUNCTION crm_version({_array((*NEVER_AUDITED, *derived))});
    """


def audited(
    table: str, resource_type: str, derived: tuple[str, ...] = (), events: str = "INSERT OR UPDATE OR DELETE"
) -> str:
    """Each change of a row writes one audit entry, in the same transaction, whoever makes it and however."""
    return f"""
        CREATE TRIGGER audit AFTER {events} ON {table}
            FOR EACH ROW EXECUTE FUNCTION crm_audit('{resource_type}', {_array((*NEVER_AUDITED, *derived))});
    """


def granted(table: str, rights: str) -> str:
    """What the service may do; TRUNCATE, which ignores row-level security, is never among it."""
    return f"GRANT {rights} ON {table} TO crm_service;"


def _array(names: tuple[str, ...]) -> str:
    return "'{" + ",".join(names) + "}'"
