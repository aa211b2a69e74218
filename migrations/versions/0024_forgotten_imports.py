"""An erasure leaves nothing of what was found in wrong rows of a file, nor the file's name."""

from pathlib import Path

from migrations.rules import run

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0024")


def upgrade() -> None:
    run((SQL / "imports.sql").read_text())


def downgrade() -> None:
    """As migration 0022 has it."""
    before = (SQL.with_name("0022") / "import_rows.sql").read_text()
    function = before[before.index("CREATE FUNCTION crm_forget_imports") :]
    run(function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
