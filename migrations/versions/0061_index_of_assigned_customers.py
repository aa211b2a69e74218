"""The customers of a person, those in the trash too, are found by an index."""

from migrations.rules import run

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A database that was made earlier has it.
    run("CREATE INDEX IF NOT EXISTS customers_assigned_to_idx ON customers (tenant_id, assigned_to, id)")


def downgrade() -> None:
    run("DROP INDEX customers_assigned_to_idx")
