"""Nothing is left of the notifications about a project that is deleted for good."""

from migrations.rules import as_role, on_each_statement, rows, run

revision = "0034"
down_revision = "0032"
branch_labels = None
depends_on = None

FUNCTION = "crm_forget_notifications()"


def upgrade() -> None:
    # Whoever makes a trigger must be allowed to call its function, and this one has another owner.
    ((owner,),) = rows("SELECT quote_ident(current_user)")
    as_role("crm_maintenance", f"GRANT EXECUTE ON FUNCTION {FUNCTION} TO {owner}")
    run(on_each_statement("notified", "DELETE", "projects", "crm_forget_notifications('project')"))
    as_role("crm_maintenance", f"REVOKE EXECUTE ON FUNCTION {FUNCTION} FROM {owner}")


def downgrade() -> None:
    """They stay until they are old."""
    run("DROP TRIGGER notified_delete ON projects")
