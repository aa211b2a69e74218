"""The whole schema: tables and functions in plain SQL in the folder 0001, and the rules of each table, here.

migrations/schema.sql shows what comes of it.
"""

from pathlib import Path

from migrations import folding
from migrations.rules import (
    audited,
    cascade_soft_delete,
    counted,
    granted,
    isolate,
    on_each_statement,
    own_only,
    owned_by,
    run,
    searchable,
    versioned,
    within_years,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0001")
# In the order in which one needs the other.
PARTS = ("shared", "search", "tenants", "audit", "counts", "customers", "sales", "attachments")

ME = "current_setting('crm.user', true)"
MY_CUSTOMERS = f"customer_id IN (SELECT id FROM customers WHERE assigned_to = {ME})"
MY_PARENTS = (
    "customer_id IN (SELECT id FROM customers) OR deal_id IN (SELECT id FROM deals)"
    " OR activity_id IN (SELECT id FROM activities)"
)
STAGE_FIELDS = 'name, display_name, "order", color, is_active, kind, probability'

# What the service's role may do.
RIGHTS = {
    "settings": "SELECT, INSERT, UPDATE",
    "users": "SELECT, INSERT, UPDATE",
    "idempotency_keys": "SELECT, INSERT, UPDATE, DELETE",
    "audit_entries": "SELECT",
    "audit_seals": "SELECT",
    "audit_progress": "",
    "record_counts": "SELECT",
    "tags": "SELECT, INSERT, UPDATE, DELETE",
    "customers": "SELECT, INSERT, UPDATE",
    "customer_tags": "SELECT",
    "contacts": "SELECT, INSERT, UPDATE",
    "pipeline_stages": f"SELECT, DELETE, INSERT (tenant_id, {STAGE_FIELDS}), UPDATE ({STAGE_FIELDS})",
    "deals": "SELECT, INSERT, UPDATE",
    "stage_history": "SELECT",
    "activities": "SELECT, INSERT, UPDATE",
    "notes": "SELECT, INSERT, UPDATE",
    "attachments": "SELECT, INSERT, UPDATE",
    "attachment_uploads": "SELECT, INSERT, DELETE",
}
WITHOUT_TIMES = {"audit_seals", "audit_progress", "record_counts", "customer_tags"}
# Which rows belong to the person who asks.
OWN = {
    "customers": f"assigned_to = {ME}",
    "contacts": MY_CUSTOMERS,
    "deals": f"owner_id = {ME} OR {MY_CUSTOMERS}",
    "stage_history": "deal_id IN (SELECT id FROM deals)",
    "activities": f"assigned_to = {ME}",
    "notes": f"author_id = {ME}",
    "attachments": f"uploaded_by = {ME} OR {MY_PARENTS}",
    "attachment_uploads": f"uploaded_by = {ME}",
}
# What the audit log calls the resource, and its generated columns, which are not audited.
RECORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tags": ("tag", ("name_folded",)),
    "customers": (
        "customer",
        ("name_folded", "email_folded", "company_folded", "search_folded", "status_rank"),
    ),
    "contacts": ("contact", ("search_folded",)),
    "deals": ("deal", ("title_folded", "stage_entered_at", "amount_order")),
    "activities": ("activity", ("title_folded", "type_rank", "priority_rank", "closed_at")),
    "notes": ("note", ("content_folded",)),
}
TITLE = "crm_fold_search(title)"
SEARCHED = {
    "customers": "search_folded",
    "contacts": "search_folded",
    "activities": TITLE,
    "notes": "content_folded",
}
# A deal is found by its customer's name too. Candidates come from either index by the longest fragment, then all
# fragments are checked, until there are enough rows. OFFSET 0 stops PostgreSQL from flattening the subquery into a
# join, which it would plan badly because it can't know how many rows match.
DEAL_HOLDS = """AND crm_fold_search(deals.title) || E'\\n' || crm_fold_search(customers.name) LIKE ALL ($3)
        LIMIT $5"""
FOUND_DEALS = f"""
        (SELECT deals.id FROM deals CROSS JOIN LATERAL (
            SELECT name FROM customers
            WHERE customers.tenant_id = $1 AND customers.id = deals.customer_id OFFSET 0) AS customers
        WHERE tenant_id = $1 AND crm_grams(crm_fold_search(title)) COLLATE "C" @> $6
            AND crm_fold_search(title) LIKE $7 AND (deleted_at IS NULL OR NOT $4) {DEAL_HOLDS})
        UNION ALL
        (SELECT deals.id FROM customers CROSS JOIN LATERAL (
            SELECT id, title FROM deals
            WHERE deals.tenant_id = $1 AND deals.customer_id = customers.id AND (deleted_at IS NULL OR NOT $4)
                AND crm_fold_search(title) NOT LIKE $7 OFFSET 0) AS deals
        WHERE tenant_id = $1 AND crm_grams(search_folded) COLLATE "C" @> $6
            AND crm_fold_search(name) LIKE $7 {DEAL_HOLDS})
        LIMIT $5"""

# Table → the column by whose values its rows are counted (the facet), and the condition for live rows, where they
# differ from the defaults of `counted`.
COUNTED: dict[str, tuple[str, ...]] = {
    "customers": ("status",),
    "customer_tags": ("tag_id", "live"),
    "contacts": (),
    "deals": ("stage_id",),
    "activities": ("type",),
    "notes": (),
    "audit_entries": ("resource_type", "true"),
}
CASCADES = {
    "customers": (
        "contacts.customer_id",
        "deals.customer_id",
        "activities.customer_id",
        "notes.customer_id",
        "attachments.customer_id",
    ),
    "deals": ("activities.deal_id", "notes.deal_id", "attachments.deal_id"),
    "activities": ("notes.activity_id", "attachments.activity_id"),
}

# What works across tenants, for the tables' owner alone.
FILES = (
    "crm_list_stored_files()",
    "crm_trash_attachment(text, bigint)",
    "crm_delete_upload(text, bigint)",
    "crm_purge_attachments(timestamptz)",
)
OWNED = {
    "crm_service": ("crm_customer_name(bigint)", "crm_deal_title(bigint)", "crm_contact_name(bigint)"),
    "crm_service_own": ("crm_owns(text, bigint)",),
    "crm_search": ("crm_search(text, text[], boolean, boolean, bigint)",),
    "crm_maintenance": (*FILES, "crm_seal_audit(bigint)", "crm_prune_idempotency_keys(bigint)"),
}
# Whoever gives a function away loses the right to call it, and only the new owner can give that back.
GIVE_BACK = f"""
DO $$
DECLARE
    owner text := current_user;
    before text := current_setting('role');
BEGIN
    SET LOCAL ROLE crm_maintenance;
    EXECUTE format('GRANT EXECUTE ON FUNCTION {", ".join(FILES)} TO %I', owner);
    PERFORM set_config('role', before, true);
END $$;
"""
# Generated columns and indexes call IMMUTABLE functions: whoever reads or writes them needs EXECUTE on these.
LET_COMPUTE = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'crm\\_%'
          AND provolatile = 'i' AND NOT prosecdef
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO crm_service, crm_search, crm_maintenance', name);
    END LOOP;
END $$;
"""
EMPTY = """
DO $$
DECLARE
    -- All of them now: one that went with another has no name any more.
    names text[] := ARRAY(
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'crm\\_%'
    );
    name text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', name);
    END LOOP;
END $$;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
"""


def upgrade() -> None:
    for part in PARTS:
        run((SQL / f"{part}.sql").read_text())
        if part == "shared":
            folding.create()
    for table, rights in RIGHTS.items():
        run(isolate(table))
        if rights:
            run(granted(table, rights))
        if table not in WITHOUT_TIMES:
            run(within_years(table))
    for table, condition in OWN.items():
        run(own_only(table, condition))

    for table, (resource_type, derived) in RECORDS.items():
        run(versioned(table, derived) + audited(table, resource_type, derived))
    run(versioned("attachments") + audited("attachments", "attachment", ("object_key",)))
    run(versioned("settings") + audited("settings", "settings", events=("UPDATE", "DELETE")))
    run(versioned("pipeline_stages") + audited("pipeline_stages", "pipeline_stage", ("origin",), built_in="origin"))

    for table, document in SEARCHED.items():
        run(searchable(table, document))
    run(searchable("deals", TITLE, FOUND_DEALS))
    for table, facet in COUNTED.items():
        run(counted(table, *facet, appended=table == "audit_entries"))
    for table, children in CASCADES.items():
        run(cascade_soft_delete(table, *children))
    for event in ("INSERT", "UPDATE"):
        run(on_each_statement("tags", event, "customers", "crm_sync_customer_tags()"))
        run(on_each_statement("stage", event, "deals", "crm_stage_history()"))

    run(LET_COMPUTE)
    for role, functions in OWNED.items():
        run(owned_by(role, *functions))
    run(GIVE_BACK)


def downgrade() -> None:
    run(f"DROP TABLE {', '.join(RIGHTS)} CASCADE")
    run(EMPTY)
