"""Projects: what belongs to them, too."""

from pathlib import Path

from migrations.rules import (
    audited,
    cascade_soft_delete,
    counted,
    granted,
    isolate,
    kept_while_held,
    logged_under,
    own_only,
    owned_by,
    run,
    searchable,
    trashed,
    versioned,
    within_years,
)

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0028")
ME = "current_setting('crm.user', true)"
DERIVED = ("name_folded", "status_rank")
BELONGING = ("activities", "notes", "attachments")
LINKED = {"customer_id": "customers", "deal_id": "deals", "activity_id": "activities"}
OF_CUSTOMERS = ("contacts", "deals", "activities", "notes", "attachments")


def _own_attachments(linked: dict[str, str]) -> str:
    ways = [f"{column} IN (SELECT id FROM {table})" for column, table in linked.items()]
    own = " OR ".join([f"uploaded_by = {ME}", *ways])
    return f"ALTER POLICY own ON attachments USING (current_user <> 'crm_service_own' OR {own});"


def upgrade() -> None:
    run((SQL / "projects.sql").read_text())
    run(isolate("projects"))
    run(own_only("projects", f"owner_id = {ME} OR assignees @> ARRAY[{ME}]"))
    run(granted("projects", "SELECT, INSERT, UPDATE"))
    run(within_years("projects"))
    run(versioned("projects", DERIVED))
    run(audited("projects", "project", DERIVED))
    run(searchable("projects", "crm_fold_search(name)"))
    run(counted("projects", "status"))
    run(cascade_soft_delete("customers", "projects.customer_id"))
    run(cascade_soft_delete("projects", *(f"{table}.project_id" for table in BELONGING)))
    run(trashed("projects"))
    run("".join(kept_while_held(table) for table in BELONGING))
    run(logged_under("project_id"))
    run(_own_attachments(LINKED | {"project_id": "projects"}))
    run("GRANT EXECUTE ON FUNCTION crm_projects_of(text[]) TO crm_service")
    run(owned_by("crm_service", "crm_project_name(bigint)") + owned_by("crm_search", "crm_projects_of(text[])"))


def downgrade() -> None:
    """Projects are lost; notes and files that belonged to nothing else stay, of nothing."""
    run(_own_attachments(LINKED))
    run("""
        DROP INDEX audit_entries_project_id_idx;
        DROP TRIGGER trash_update ON customers;
        DROP TRIGGER trash_update ON projects;
        DROP FUNCTION crm_projects_of, crm_project_name, crm_search_projects;
    """)
    run(cascade_soft_delete("customers", *(f"{table}.customer_id" for table in OF_CUSTOMERS)))
    run("".join(kept_while_held(table) for table in BELONGING))
    run("ALTER TABLE activities DROP COLUMN project_id")
    for table, links in (("notes", "> 0"), ("attachments", "= 1"), ("attachment_uploads", "= 1")):
        run(f"""
            ALTER TABLE {table} DROP COLUMN project_id,
                DROP CONSTRAINT IF EXISTS {table}_link_check, ADD CONSTRAINT {table}_link_check
                    CHECK (num_nonnulls({", ".join(LINKED)}) {links}) NOT VALID;
        """)
    run("DROP TABLE projects")
    for event in ("insert", "update", "delete"):
        run(f"DROP FUNCTION crm_count_projects_{event}()")
