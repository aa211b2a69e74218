"""Audit entries know their operation, and seals can do without the values."""

from pathlib import Path

from migrations.rules import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0002")
SHARED = Path(__file__).with_name("0001") / "shared.sql"


def upgrade() -> None:
    run((SQL / "operations.sql").read_text())


def downgrade() -> None:
    before = SHARED.read_text()
    start = before.index("CREATE FUNCTION crm_audit()")
    audit = before[start : before.index("END $$;", start)].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    run(f"{audit}END $$;")
    run("""
        DROP FUNCTION crm_values_digest;
        REVOKE INSERT (id, version, created_at) ON pipeline_stages FROM crm_service;
        ALTER TABLE idempotency_keys DROP COLUMN operation_id;
        ALTER TABLE audit_entries
            DROP COLUMN version, DROP COLUMN operation_id, DROP COLUMN via,
            DROP COLUMN salt, DROP COLUMN old_digest, DROP COLUMN new_digest,
            DROP CONSTRAINT audit_entries_action_check,
            ADD CONSTRAINT audit_entries_action_check
                CHECK (action IN ('create', 'update', 'delete', 'restore')) NOT VALID;
    """)
