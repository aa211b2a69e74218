"""Imports of many rows are deleted part by part; an attachment is an object of its own organization."""

from pathlib import Path

from migrations.rules import as_role, run

revision = "0033"
down_revision = "0034"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0033")
# As app/storage/objects.py makes keys: of what is kept, and of what a client still sends.
OWN = "split_part(object_key, '/', {}) IN (tenant_id, '~' || encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex'))"
CHECKS = {
    "attachments": OWN.format(1),
    "attachment_uploads": f"split_part(object_key, '/', 1) = 'incoming' AND {OWN.format(2)}",
}


def upgrade() -> None:
    as_role("crm_maintenance", (SQL / "long_imports.sql").read_text())
    run("""
        CREATE POLICY maintenance ON import_rows TO crm_maintenance USING (true);
        GRANT SELECT (tenant_id, import_id, number), DELETE ON import_rows TO crm_maintenance;
        GRANT UPDATE (status) ON imports TO crm_maintenance;
    """)
    for table, own in CHECKS.items():
        run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_object_key_check CHECK ({own}) NOT VALID")
        run(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_object_key_check")


def downgrade() -> None:
    """As migration 0016 has it."""
    before = (SQL.with_name("0016") / "imports.sql").read_text()
    function = before[before.index("CREATE FUNCTION crm_prune_imports") :]
    function = function[: function.index("END $$;")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    as_role("crm_maintenance", f"{function}END $$")
    run("""
        DROP POLICY maintenance ON import_rows;
        REVOKE ALL ON import_rows FROM crm_maintenance;
        REVOKE UPDATE (status) ON imports FROM crm_maintenance;
    """)
    for table in CHECKS:
        run(f"ALTER TABLE {table} DROP CONSTRAINT {table}_object_key_check")
