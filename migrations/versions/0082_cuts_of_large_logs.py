"""Retention keeps up with large logs and many organizations.

It goes on where it stopped, looks no further than it may delete, and keeps nobody from sealing. It deletes a small part
of its tables each day, and vacuums make room for new entries before a fifth of them is gone.
"""

from pathlib import Path

from migrations.rules import as_role, run

revision = "0082"
down_revision = "0079"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0082")


def upgrade() -> None:
    run("ALTER TABLE audit_cuts ADD COLUMN deleted_to bigint")
    as_role("crm_maintenance", (SQL / "cuts.sql").read_text())
    for table in ("audit_entries", "audit_seals"):
        run(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02)")


def downgrade() -> None:
    """As migration 0005 has it."""
    before = (SQL.with_name("0005") / "cuts.sql").read_text()
    function = before[before.index("CREATE FUNCTION crm_cut_audit") :]
    as_role("crm_maintenance", function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    run("ALTER TABLE audit_cuts DROP COLUMN deleted_to")
    for table in ("audit_entries", "audit_seals"):
        run(f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor)")
