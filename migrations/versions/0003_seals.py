"""Seals of version 2, over digests of the values; values can be erased, and old entries be cut off."""

from pathlib import Path

from migrations.rules import as_role, granted, isolate, owned_by, rows, run, within_years

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0003")
BEFORE = Path(__file__).with_name("0001") / "audit.sql"
ERASE_ENTRIES = "crm_erase_entries(text, bigint, jsonb, bigint[])"


def upgrade() -> None:
    run((SQL / "seals.sql").read_text())
    run(isolate("audit_cuts") + granted("audit_cuts", "SELECT") + within_years("audit_cuts"))
    run(owned_by("crm_maintenance", ERASE_ENTRIES))
    ((owner,),) = rows("SELECT quote_ident(current_user)")
    for_owner = f"GRANT EXECUTE ON FUNCTION {ERASE_ENTRIES} TO {owner};"
    as_role("crm_maintenance", for_owner + (SQL / "sealing.sql").read_text())


def downgrade() -> None:
    """Entries that have no seal of version 1 get one. Where values were erased, the chain no longer verifies."""
    run("ALTER TABLE audit_cuts NO FORCE ROW LEVEL SECURITY")
    if rows("SELECT 1 FROM audit_cuts LIMIT 1"):
        # The older release can't verify a log that begins later than at its first entry.
        raise RuntimeError("the audit log was cut by retention: to go back, restore a backup of before the upgrade")
    before = BEFORE.read_text()
    sealing = before[
        before.index("CREATE FUNCTION crm_seal_audit(") : before.index("GRANT EXECUTE ON FUNCTION crm_seal")
    ]
    run("""
        DROP FUNCTION crm_guard_audit CASCADE;
        DROP TABLE audit_cuts;
        DROP POLICY filling ON audit_entries;
        DROP POLICY noting ON audit_entries;
        REVOKE INSERT, UPDATE (old_values, new_values, salt, old_digest, new_digest, erased_by) ON audit_entries
            FROM crm_maintenance;
        ALTER TABLE audit_entries DROP COLUMN erased_by;
        ALTER TABLE audit_seals NO FORCE ROW LEVEL SECURITY;
        DELETE FROM audit_seals WHERE hash_v1 IS NULL;
        ALTER TABLE audit_seals FORCE ROW LEVEL SECURITY;
        ALTER TABLE audit_seals DROP COLUMN hash;
        ALTER TABLE audit_seals ALTER COLUMN hash_v1 SET NOT NULL;
        ALTER TABLE audit_seals RENAME COLUMN hash_v1 TO hash;
        ALTER TABLE audit_seals RENAME CONSTRAINT audit_seals_hash_v1_check TO audit_seals_hash_check;
        CREATE INDEX audit_seals_entry_idx ON audit_seals (entry_id);
    """)
    replaced = sealing.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    as_role("crm_maintenance", f"DROP FUNCTION crm_erase_entries; {replaced}")
