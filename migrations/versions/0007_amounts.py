"""Amounts that an index finds: row-level security lets a condition on a bigint into one, and none on a numeric."""

from migrations.row_rules import audited
from migrations.rules import run, versioned

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DERIVED_BEFORE = ("title_folded", "stage_entered_at")
DERIVED = (*DERIVED_BEFORE, "amount_thousandths")


def _triggers(derived: tuple[str, ...]) -> str:
    return f"""
        DROP TRIGGER version ON deals;
        DROP TRIGGER audit ON deals;
        {versioned("deals", derived)}
        {audited("deals", "deal", derived)}
    """


def upgrade() -> None:
    run(f"""
        DROP INDEX deals_live_amount_idx;
        ALTER TABLE deals
            ADD COLUMN amount_thousandths bigint NOT NULL GENERATED ALWAYS AS ((amount * 1000)::bigint) STORED;
        CREATE INDEX deals_live_amount_idx ON deals (tenant_id, amount_thousandths, id) WHERE deleted_at IS NULL;
        {_triggers(DERIVED)}
    """)


def downgrade() -> None:
    run(f"""
        {_triggers(DERIVED_BEFORE)}
        DROP INDEX deals_live_amount_idx;
        ALTER TABLE deals DROP COLUMN amount_thousandths;
        CREATE INDEX deals_live_amount_idx ON deals (tenant_id, amount, id) WHERE deleted_at IS NULL;
    """)
