"""Lists that stay fast: an index for each order and common filter, and counts that are kept."""

from migrations.row_rules import counted
from migrations.rules import granted, isolate, recounted, run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LIVE, TRASHED = "deleted_at IS NULL", "deleted_at IS NOT NULL"
INDEXES = {
    "customers_live_updated_at_idx": ("customers", "updated_at, id", LIVE),
    "customers_live_email_idx": ("customers", "email_folded, id", LIVE),
    "customers_live_company_idx": ("customers", "company_folded, id", LIVE),
    "customers_live_next_follow_up_at_idx": ("customers", "next_follow_up_at, id", LIVE),
    "customers_live_status_rank_idx": ("customers", "status_rank, id", LIVE),
    "customers_live_status_idx": ("customers", "status, created_at, id", LIVE),
    "customers_trash_idx": ("customers", "created_at, id", TRASHED),
    "contacts_trash_idx": ("contacts", "created_at, id", TRASHED),
    "deals_live_updated_at_idx": ("deals", "updated_at, id", LIVE),
    "deals_live_title_idx": ("deals", "title_folded, id", LIVE),
    "deals_live_amount_idx": ("deals", "amount, id", LIVE),
    "deals_live_expected_close_date_idx": ("deals", "expected_close_date, id", LIVE),
    "deals_live_stage_idx": ("deals", "stage_id, id", LIVE),
    "deals_live_stage_created_at_idx": ("deals", "stage_id, created_at, id", LIVE),
    "deals_trash_idx": ("deals", "created_at, id", TRASHED),
    "activities_live_created_at_idx": ("activities", "created_at, id", LIVE),
    "activities_live_updated_at_idx": ("activities", "updated_at, id", LIVE),
    "activities_live_title_idx": ("activities", "title_folded, id", LIVE),
    "activities_live_type_rank_idx": ("activities", "type_rank, id", LIVE),
    "activities_live_priority_rank_idx": ("activities", "priority_rank, id", LIVE),
    "activities_live_status_idx": ("activities", "status, id", LIVE),
    "activities_live_status_due_date_idx": ("activities", "status, due_date, id", LIVE),
    "activities_trash_idx": ("activities", "due_date, id", TRASHED),
    "notes_live_author_idx": ("notes", "author_id, created_at, id", LIVE),
    "notes_trash_idx": ("notes", "created_at, id", TRASHED),
}

# What the customers' deals are worth, from the index alone; the owner index goes on by the lists' default order.
OWNERS = """
CREATE INDEX deals_live_value_idx ON deals (tenant_id, customer_id) INCLUDE (amount, currency) WHERE deleted_at IS NULL;
DROP INDEX deals_live_owner_idx;
CREATE INDEX deals_live_owner_idx ON deals (tenant_id, owner_id, created_at, id) WHERE deleted_at IS NULL;
"""
OWNERS_BEFORE = """
DROP INDEX deals_live_value_idx;
DROP INDEX deals_live_owner_idx;
CREATE INDEX deals_live_owner_idx ON deals (tenant_id, owner_id) WHERE deleted_at IS NULL;
"""

# The tags of trashed customers stay, and are not counted.
SPREAD_LIVE_TAGS = """
CREATE OR REPLACE FUNCTION crm_spread_customer_tags() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM customer_tags
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND tag_id <> ALL (NEW.tags);
    INSERT INTO customer_tags (tenant_id, customer_id, tag_id, live)
    SELECT NEW.tenant_id, NEW.id, tag_id, NEW.deleted_at IS NULL FROM unnest(NEW.tags) AS tag_id
    ON CONFLICT (tenant_id, tag_id, customer_id) DO UPDATE SET live = excluded.live
    WHERE customer_tags.live <> excluded.live;
    RETURN NULL;
END $$;
CREATE TRIGGER tags_trashed AFTER UPDATE OF deleted_at ON customers
    FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at AND cardinality(NEW.tags) > 0)
    EXECUTE FUNCTION crm_spread_customer_tags();
"""
LIVE_TAGS = f"""
ALTER TABLE customer_tags ADD COLUMN live boolean NOT NULL DEFAULT true;
ALTER TABLE customers NO FORCE ROW LEVEL SECURITY;
ALTER TABLE customer_tags NO FORCE ROW LEVEL SECURITY;
UPDATE customer_tags SET live = false
FROM customers
WHERE customers.tenant_id = customer_tags.tenant_id AND customers.id = customer_id AND deleted_at IS NOT NULL;
ALTER TABLE customers FORCE ROW LEVEL SECURITY;
ALTER TABLE customer_tags FORCE ROW LEVEL SECURITY;
{SPREAD_LIVE_TAGS}
"""
LIVE_TAGS_BEFORE = """
DROP TRIGGER tags_trashed ON customers;
CREATE OR REPLACE FUNCTION crm_spread_customer_tags() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM customer_tags
    WHERE tenant_id = NEW.tenant_id AND customer_id = NEW.id AND tag_id <> ALL (NEW.tags);
    INSERT INTO customer_tags (tenant_id, customer_id, tag_id)
    SELECT NEW.tenant_id, NEW.id, tag_id FROM unnest(NEW.tags) AS tag_id
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
ALTER TABLE customer_tags DROP COLUMN live;
"""

FOLD = """
-- Puts one entry a facet in the place of many. What another transaction is folding is left to it: nobody waits.
CREATE FUNCTION crm_fold_counts(which text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH few AS (
        SELECT id FROM record_counts
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
        FOR UPDATE SKIP LOCKED
    ),
    folded AS (
        DELETE FROM record_counts
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which AND id IN (SELECT id FROM few)
        RETURNING tenant_id, facet, rows
    )
    INSERT INTO record_counts (tenant_id, counted, facet, rows)
    SELECT tenant_id, which, facet, sum(rows) FROM folded GROUP BY tenant_id, facet HAVING sum(rows) <> 0;
END;
"""
COUNTS = f"""
CREATE TABLE record_counts (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    counted text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    facet text NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (tenant_id, counted, id) INCLUDE (facet, rows)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000);
{isolate("record_counts")}
{granted("record_counts", "SELECT")}
-- Whoever changes rows, of whatever tenants at once, is counted: the triggers append as this owner.
CREATE POLICY counted ON record_counts FOR INSERT TO CURRENT_USER WITH CHECK (true);

{FOLD}REVOKE EXECUTE ON FUNCTION crm_fold_counts(text) FROM PUBLIC;
"""
# Table, facet, which rows are live, and whether rows only ever come.
COUNTED = (
    ("customers", "status"),
    ("customer_tags", "tag_id", "live"),
    ("contacts",),
    ("deals", "stage_id"),
    ("activities", "type"),
    ("notes",),
    ("audit_entries", "resource_type", "true"),
)
APPENDED = {"audit_entries"}


def upgrade() -> None:
    for name, (table, columns, which) in INDEXES.items():
        run(f"CREATE INDEX {name} ON {table} (tenant_id, {columns}) WHERE {which}")
    for statements in (OWNERS, LIVE_TAGS, COUNTS):
        run(statements)
    for table, *more in COUNTED:
        run(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY; ALTER TABLE record_counts NO FORCE ROW LEVEL SECURITY")
        run(recounted(table, *more))
        run(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY; ALTER TABLE record_counts FORCE ROW LEVEL SECURITY")
        run(counted(table, *more, appended=table in APPENDED))


def downgrade() -> None:
    for table, *_ in COUNTED:
        events = ("insert",) if table in APPENDED else ("insert", "update", "delete")
        for event in events:
            run(f"DROP TRIGGER count_{event} ON {table}; DROP FUNCTION crm_count_{table}_{event}()")
    run("DROP TABLE record_counts CASCADE; DROP FUNCTION IF EXISTS crm_fold_counts(text)")
    run(OWNERS_BEFORE)
    run(LIVE_TAGS_BEFORE)
    for name in INDEXES:
        run(f"DROP INDEX {name}")
