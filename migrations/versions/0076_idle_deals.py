"""Whether a deal's activities and notes changed of late is read off an index, not off a million of their rows."""

from migrations.rules import run

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("activities", "notes"):
        run(f"""
            CREATE INDEX {table}_changed_idx ON {table} (tenant_id, deal_id) INCLUDE (updated_at, deleted_at)
                WHERE deal_id IS NOT NULL;
            DROP INDEX {table}_deal_idx;
            ALTER INDEX {table}_changed_idx RENAME TO {table}_deal_idx
        """)


def downgrade() -> None:
    for table in ("activities", "notes"):
        run(f"""
            DROP INDEX {table}_deal_idx;
            CREATE INDEX {table}_deal_idx ON {table} (tenant_id, deal_id) WHERE deal_id IS NOT NULL
        """)
