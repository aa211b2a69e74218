"""The stage history is vacuumed after two of a hundred rows have changed.

The funnel of a period is read off its indexes. Whoever gives many deals to others rewrites their visits, and until a
vacuum each of these is looked up in the table.
"""

from migrations.rules import run

revision = "0085"
down_revision = "0084"
branch_labels = None
depends_on = None

EARLY = ("vacuum_scale_factor", "vacuum_insert_scale_factor", "analyze_scale_factor")


def upgrade() -> None:
    run(f"ALTER TABLE stage_history SET ({', '.join(f'autovacuum_{name} = 0.02' for name in EARLY)})")


def downgrade() -> None:
    run(f"ALTER TABLE stage_history RESET ({', '.join(f'autovacuum_{name}' for name in EARLY)})")
