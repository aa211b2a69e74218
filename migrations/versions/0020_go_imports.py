"""Where the data of organizations come from that are moved in from the Go service, and whether these are complete."""

from pathlib import Path

from migrations.rules import granted, isolate, run, within_years

revision = "0020"
down_revision = "0016"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0020")
TABLE = "go_imports"


def upgrade() -> None:
    run((SQL / "go_imports.sql").read_text())
    run(isolate(TABLE) + granted(TABLE, "SELECT") + within_years(TABLE))


def downgrade() -> None:
    """What was moved in stays."""
    run("DROP TABLE go_imports")
