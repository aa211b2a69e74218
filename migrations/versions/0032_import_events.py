"""The audit log says when an import is done."""

from pathlib import Path

from migrations.rules import owned_by, run

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0032")
ACTIONS = "'create', 'update', 'delete', 'restore', 'purge', 'merge', 'erase', 'export'"


def upgrade() -> None:
    _allow(f"{ACTIONS}, 'import'")
    run((SQL / "import_events.sql").read_text())
    run(owned_by("crm_maintenance", "crm_log_import(bigint, jsonb)"))


def downgrade() -> None:
    """Entries that say so stay."""
    run("DROP FUNCTION crm_log_import")
    _allow(ACTIONS)


def _allow(actions: str) -> None:
    """Not checked for the entries that are there: that would read the whole log."""
    run(f"""
        ALTER TABLE audit_entries DROP CONSTRAINT audit_entries_action_check,
            ADD CONSTRAINT audit_entries_action_check CHECK (action IN ({actions})) NOT VALID
    """)
