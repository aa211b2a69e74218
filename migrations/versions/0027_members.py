"""Members: the people of an organization, and what it lets each of them do."""

from pathlib import Path

from migrations.rules import audited, granted, isolate, owned_by, run, versioned, within_years

revision = "0027"
down_revision = "0029"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0027") / "members.sql"
TABLE = "members"
# The service's own: that somebody was seen is no change that anybody made.
DERIVED = ("user_id", "email_folded", "changed_in")


def upgrade() -> None:
    run(SQL.read_text())
    run("""
        ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
        INSERT INTO members (tenant_id, user_id) SELECT tenant_id, id FROM users;
        ALTER TABLE users FORCE ROW LEVEL SECURITY;
    """)
    run(isolate(TABLE) + granted(TABLE, "SELECT, INSERT, UPDATE, DELETE"))
    run(within_years(TABLE) + versioned(TABLE, DERIVED) + audited(TABLE, "member", DERIVED, built_in="user_id"))
    run(f"""
        CREATE POLICY maintenance ON {TABLE} FOR SELECT TO crm_maintenance USING (true);
        GRANT SELECT ON {TABLE} TO crm_maintenance;
        GRANT EXECUTE ON FUNCTION crm_lock_members(text), crm_member_changes(bigint) TO crm_service;
    """)
    run(owned_by("crm_maintenance", "crm_member_changes(bigint)"))


def downgrade() -> None:
    """Invitations are lost, and everybody may do again what their tokens say."""
    run("""
        DROP TRIGGER join_member ON users;
        DROP TABLE members;
        DROP FUNCTION crm_member_changes, crm_keep_an_admin, crm_join_member, crm_note_member, crm_lock_members;
    """)
