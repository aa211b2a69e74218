"""Records are erased, and purged from the trash after some days."""

from pathlib import Path

from migrations.rules import as_role, isolate, logged_under, owned_by, rows, run, within_years

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0006")
BEFORE = Path(__file__).with_name("0001") / "attachments.sql"
PURGE_ATTACHMENTS = "crm_purge_attachments(timestamptz)"
# What the tables' owner calls, though it is another role's.
FOR_OWNER = (
    "crm_deleted_under(text, text, text, text[])",
    "crm_list_removed_objects(bigint)",
    "crm_forget_removed_objects(text[])",
    PURGE_ATTACHMENTS,
)
ACROSS_TENANTS = (*FOR_OWNER[:3], "crm_purge_trash(text[], bigint)")
COMPUTING = "crm_ids(jsonb, text), crm_size(jsonb), crm_leaves(jsonb, text[], bigint), crm_mentioned(bytea)"
PARENTS = ("customer_id", "deal_id", "activity_id")


def upgrade() -> None:
    run((SQL / "erasure.sql").read_text())
    run(isolate("removed_objects") + within_years("removed_objects"))
    for parent in PARENTS:
        run(logged_under(parent))
    run(f"GRANT EXECUTE ON FUNCTION {COMPUTING} TO crm_service, crm_search, crm_maintenance")
    run(owned_by("crm_maintenance", *ACROSS_TENANTS))
    _replace_purge_attachments((SQL / "attachments.sql").read_text(), *FOR_OWNER)


def downgrade() -> None:
    before = BEFORE.read_text()
    _replace_purge_attachments(before[before.index("CREATE FUNCTION crm_purge_attachments(") :], PURGE_ATTACHMENTS)
    for function in ACROSS_TENANTS:
        as_role("crm_maintenance", f"DROP FUNCTION {function};")
    for parent in PARENTS:
        run(f"DROP INDEX audit_entries_{parent}_idx")
    run("""
        ALTER TABLE idempotency_keys DROP COLUMN mentions;
        DROP FUNCTION crm_purge_tenant, crm_leaves, crm_erase_record, crm_tree_in_log, crm_remove, crm_size, crm_tree;
        DROP FUNCTION crm_held_condition, crm_ids, crm_made_at, crm_mentioned, crm_kind, crm_cascades;
        REVOKE SELECT (tenant_id, trash_days) ON settings FROM crm_maintenance;
        DROP TABLE removed_objects;
    """)


def _replace_purge_attachments(function: str, *for_owner: str) -> None:
    ((owner,),) = rows("SELECT quote_ident(current_user)")
    rights = f"""
        REVOKE EXECUTE ON FUNCTION {PURGE_ATTACHMENTS} FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION {", ".join(for_owner)} TO {owner};
    """
    as_role("crm_maintenance", f"DROP FUNCTION {PURGE_ATTACHMENTS}; {function} {rights}")
