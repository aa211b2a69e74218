"""People's ids become JSON inside the statement that shows them, without a call of the function for each.

PostgreSQL puts the body of a function in its place only where the body is no less stable than the function says, and
handles null as it does.
"""

from migrations.rules import run

revision = "0084"
down_revision = "0083"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("ALTER FUNCTION crm_user_json(text) STABLE CALLED ON NULL INPUT")


def downgrade() -> None:
    run("ALTER FUNCTION crm_user_json(text) IMMUTABLE STRICT")
