"""Customers on hold, the trash by time, and how long an organization keeps what it has deleted."""

from pathlib import Path

from migrations.rules import run, trashed

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0004")
TRASHED = ("customers", "contacts", "deals", "activities", "notes", "attachments")


def upgrade() -> None:
    run((SQL / "hold.sql").read_text())
    for table in TRASHED:
        run(trashed(table))


def downgrade() -> None:
    for table in TRASHED:
        run(f"""
            DROP INDEX {table}_trashed_at_idx;
            DROP TRIGGER held ON {table};
            DROP TRIGGER held_delete ON {table};
        """)
    run("""
        DROP FUNCTION crm_keep_held, crm_is_held;
        DROP INDEX customers_hold_idx;
        ALTER TABLE customers DROP COLUMN hold;
        ALTER TABLE settings DROP COLUMN country, DROP COLUMN trash_days, DROP COLUMN audit_days;
    """)
