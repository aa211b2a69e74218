"""Functions by which `crm identity` shuts former members out, and lets people in again."""

from pathlib import Path

from migrations.rules import amend, owned_by, run

revision = "0050"
down_revision = "0048"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0050") / "identity.sql"
FUNCTIONS = ("crm_shut_out(text, text, text, text, jsonb, boolean)", "crm_let_in(text, text, jsonb)")
KEEP, LOCK = "crm_keep_an_admin()", "    PERFORM crm_lock_members(NEW.tenant_id);\n"
# The current user is that role in the functions above only.
UNLESS = """    IF current_user = 'crm_maintenance' THEN
        RETURN NULL;  -- crm identity has such a rule of its own
    END IF;
"""


def upgrade() -> None:
    run(SQL.read_text())
    run(owned_by("crm_maintenance", *FUNCTIONS))
    amend(KEEP, LOCK, UNLESS + LOCK)


def downgrade() -> None:
    """Who is removed in `crm identity` stays in the CRM until the token expires."""
    amend(KEEP, UNLESS + LOCK, LOCK)
    run("""
        DROP FUNCTION crm_shut_out, crm_let_in;
        REVOKE INSERT (tenant_id, user_id, name, email, is_active, signed_out_at), UPDATE (is_active, signed_out_at)
            ON members FROM crm_maintenance;
        REVOKE EXECUTE ON FUNCTION crm_lock_members(text) FROM crm_maintenance;
    """)
