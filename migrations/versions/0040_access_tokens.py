"""Access tokens that people make for programs which can't log in."""

from pathlib import Path

from migrations.rules import granted, owned_by, run, within_years

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0040") / "access_tokens.sql"
TABLE = "access_tokens"


def upgrade() -> None:
    run(SQL.read_text())
    run(granted(TABLE, "SELECT, INSERT, DELETE") + within_years(TABLE))
    run(owned_by("crm_maintenance", "crm_find_access_token(bytea)"))


def downgrade() -> None:
    """Access tokens are lost: none of them is accepted any more."""
    run("""
        DROP FUNCTION crm_find_access_token;
        DROP TABLE access_tokens;
        DROP POLICY maintenance ON users;
        REVOKE SELECT ON users FROM crm_maintenance;
    """)
