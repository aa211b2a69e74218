"""The service's own periodic work is done once for all workers."""

from pathlib import Path

from migrations.rules import as_role, owned_by, run

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0016")


def upgrade() -> None:
    run((SQL / "upkeep.sql").read_text())
    as_role("crm_maintenance", (SQL / "tend.sql").read_text())
    run(owned_by("crm_maintenance", "crm_take_turn(text, bigint)"))


def downgrade() -> None:
    """What 0016 says of how long something waits is right before it, too."""
    run("DROP FUNCTION crm_take_turn; DELETE FROM procrastinate_periodic_defers")
