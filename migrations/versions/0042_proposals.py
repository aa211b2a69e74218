"""What tools would do, and a person has to approve."""

from pathlib import Path

from migrations.rules import amend, array, granted, isolate, owned_by, run, within_years

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0042")
ERASE = "crm_erase_record(text, bigint, timestamptz, text, bigint, bigint)"
IMPORTS = "    PERFORM crm_forget_imports(tenant, known);\n"
PROPOSALS = "    DELETE FROM proposals WHERE tenant_id = tenant AND mentions && known_ids;\n"


def upgrade() -> None:
    run((SQL / "proposals.sql").read_text())
    run(isolate("proposals") + within_years("proposals"))
    # They are nobody else's, whatever the role.
    run(f"""
        CREATE POLICY person ON proposals AS RESTRICTIVE USING (
            current_user <> ALL ({array(("crm_service", "crm_service_own"))}::name[])
            OR user_id = current_setting('crm.user', true)
        );
        CREATE POLICY maintenance ON proposals TO crm_maintenance USING (true);
        GRANT DELETE, SELECT (tenant_id, id, decided_at, expires_at) ON proposals TO crm_maintenance;
    """)
    run(granted("proposals", "SELECT, INSERT, UPDATE (status, decided_at, operation_id)"))
    run(owned_by("crm_maintenance", "crm_prune_proposals(bigint)"))
    amend(ERASE, IMPORTS, IMPORTS + PROPOSALS)


def downgrade() -> None:
    """Proposals are lost: what waits for approval is not done."""
    amend(ERASE, PROPOSALS, "")
    run("DROP FUNCTION crm_prune_proposals; DROP TABLE proposals; DROP FUNCTION crm_mentioned_in")
