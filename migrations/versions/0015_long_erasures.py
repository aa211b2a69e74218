"""Large erasures are measured before they become jobs; an erasure empties files of jobs, and what receivers of webhooks
answered.
"""

from pathlib import Path

from migrations.rules import run

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0015")


def upgrade() -> None:
    run((SQL / "erasure.sql").read_text())


def downgrade() -> None:
    run((SQL.with_name("0008") / "erasure.sql").read_text())
    run("DROP FUNCTION crm_measure_erasure, crm_entries_about, crm_named; DROP INDEX webhook_deliveries_resource_idx")
