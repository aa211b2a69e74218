"""What a call outside of the service has answered, after its person approved it; and hyphens in names of servers."""

from migrations.rules import run

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


NAMES = """
    ALTER TABLE mcp_servers DROP CONSTRAINT mcp_servers_name_check,
        ADD CONSTRAINT mcp_servers_name_check CHECK (name ~ '^[a-z][a-z0-9_{more}]{{0,31}}$') {valid}
"""


def upgrade() -> None:
    run("ALTER TABLE proposals ADD COLUMN answer jsonb; GRANT UPDATE (answer) ON proposals TO crm_service")
    run(NAMES.format(more="-", valid=""))


def downgrade() -> None:
    """Answers are lost."""
    run(NAMES.format(more="", valid="NOT VALID"))
    run("ALTER TABLE proposals DROP COLUMN answer")
