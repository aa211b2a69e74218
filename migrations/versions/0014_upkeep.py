"""The service's own periodic work is done once for all workers."""

from pathlib import Path

from migrations.rules import as_role, owned_by, run

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0014")


def upgrade() -> None:
    run((SQL / "upkeep.sql").read_text())
    as_role("crm_maintenance", (SQL / "tend.sql").read_text())
    run(owned_by("crm_maintenance", "crm_take_turn(text, bigint)"))


def downgrade() -> None:
    """As migration 0009 has it."""
    before = (SQL.with_name("0009") / "jobs.sql").read_text()
    begin = before.index("CREATE FUNCTION crm_tend_jobs")
    end = before.index("$$;", begin) + len("$$;")
    as_role("crm_maintenance", before[begin:end].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    run("DROP FUNCTION crm_take_turn; DELETE FROM procrastinate_periodic_defers")
