"""Many rows at once cost little: triggers work on all rows of a statement, and a count is one row that is updated."""

from importlib import import_module

from migrations import row_rules
from migrations.rules import audited, counted, on_each_statement, run, trashed_with

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CUSTOMERS, SALES, ATTACHMENTS, FAST, AMOUNTS, WHOLE_DAYS = (
    import_module(f"migrations.versions.{name}")
    for name in ("0001_customers", "0002_sales", "0003_attachments", "0004_fast", "0007_amounts", "0008_whole_days")
)
# Table, resource type, what the database derives.
AUDITED = (
    ("tags", "tag", ("name_folded",)),
    ("customers", "customer", CUSTOMERS.CUSTOMER_DERIVED),
    ("contacts", "contact", ("search_folded",)),
    ("deals", "deal", AMOUNTS.DERIVED),
    ("activities", "activity", WHOLE_DAYS.DERIVED),
    ("notes", "note", ()),
    ("attachments", "attachment", ("object_key",)),
)

VERSION = """
-- Raises version and updated_at when a row really changes; arguments: the columns that do not count. A row keeps its
-- key: by that its audit entries know it.
CREATE OR REPLACE FUNCTION crm_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.id <> OLD.id THEN
        RAISE insufficient_privilege USING MESSAGE = 'a row keeps its tenant and its id';
    END IF;
    IF to_jsonb(NEW) - TG_ARGV[0]::text[] IS DISTINCT FROM to_jsonb(OLD) - TG_ARGV[0]::text[] THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := now();
    ELSE
        NEW.version := OLD.version;
        NEW.updated_at := OLD.updated_at;
    END IF;
    RETURN NEW;
END $$;
"""

AUDIT = """
-- Writes the audit entries of a statement's rows; arguments: resource type, columns left out, and the column that marks
-- new rows as nobody's. It runs as its owner, because the service itself may not write here; who asks stands in the
-- transaction's own settings. Its plan is kept, and was made for few rows: a nested loop over many would never end.
CREATE OR REPLACE FUNCTION crm_audit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET enable_nestloop = off AS $$
DECLARE
    actor jsonb := nullif(current_setting('crm.actor', true), '')::jsonb;
    left_out text[] := TG_ARGV[1];
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, user_id, user_name, user_role,
                                   new_values, ip_address, user_agent, request_id)
        SELECT tenant_id, TG_ARGV[0], id, 'create', actor ->> 'user_id', actor ->> 'user_name', actor ->> 'user_role',
               to_jsonb(new_row) - left_out, actor ->> 'ip_address', actor ->> 'user_agent', actor ->> 'request_id'
        FROM new_rows AS new_row WHERE TG_NARGS < 3 OR to_jsonb(new_row) ->> TG_ARGV[2] IS NULL;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, user_id, user_name, user_role,
                                   old_values, ip_address, user_agent, request_id)
        SELECT tenant_id, TG_ARGV[0], id, 'delete', actor ->> 'user_id', actor ->> 'user_name', actor ->> 'user_role',
               to_jsonb(old_row) - left_out, actor ->> 'ip_address', actor ->> 'user_agent', actor ->> 'request_id'
        FROM old_rows AS old_row;
    ELSE
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, user_id, user_name, user_role,
                                   old_values, new_values, ip_address, user_agent, request_id)
        SELECT tenant_id, TG_ARGV[0], id, action, actor ->> 'user_id', actor ->> 'user_name', actor ->> 'user_role',
               CASE WHEN action = 'delete' THEN old_values
                    ELSE (SELECT jsonb_object_agg(key, old_values -> key) FROM jsonb_object_keys(changed) AS key) END,
               changed, actor ->> 'ip_address', actor ->> 'user_agent', actor ->> 'request_id'
        FROM (
            SELECT *, CASE jsonb_typeof(changed -> 'deleted_at')
                WHEN 'string' THEN 'delete' WHEN 'null' THEN 'restore' ELSE 'update' END AS action
            FROM (
                SELECT tenant_id, id, old_values, (
                    SELECT jsonb_object_agg(key, value) FROM jsonb_each(new_values)
                    WHERE value IS DISTINCT FROM old_values -> key
                ) AS changed
                FROM (
                    SELECT old_row.tenant_id, old_row.id,
                           to_jsonb(old_row) - left_out AS old_values, to_jsonb(new_row) - left_out AS new_values
                    FROM old_rows AS old_row JOIN new_rows AS new_row
                        ON new_row.tenant_id = old_row.tenant_id AND new_row.id = old_row.id
                    OFFSET 0  -- what is computed here is computed once
                ) AS rows
                OFFSET 0
            ) AS changes
            WHERE changed IS NOT NULL
        ) AS actions ORDER BY id;
    END IF;
    RETURN NULL;
END $$;
"""

# What a statement leaves as it is costs no more than this comparison. What it changes is planned anew each time, for
# as many rows as there are.
TAGS = f"""
-- Keeps customer_tags equal to customers.tags; a tag that does not exist fails on the foreign key.
CREATE OR REPLACE FUNCTION crm_spread_customer_tags() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO customer_tags (tenant_id, customer_id, tag_id, live)
        SELECT DISTINCT tenant_id, id, unnest(tags), deleted_at IS NULL FROM new_rows WHERE cardinality(tags) > 0;
    ELSIF EXISTS (
        SELECT tenant_id, id, tags, deleted_at IS NULL FROM new_rows
        EXCEPT SELECT tenant_id, id, tags, deleted_at IS NULL FROM old_rows
    ) THEN
        EXECUTE $q$
            DELETE FROM customer_tags USING new_rows AS customer
            WHERE customer_tags.tenant_id = customer.tenant_id AND customer_id = customer.id
              AND tag_id <> ALL (customer.tags)
        $q$;
        EXECUTE $q$
            INSERT INTO customer_tags (tenant_id, customer_id, tag_id, live)
            SELECT DISTINCT tenant_id, id, unnest(tags), deleted_at IS NULL FROM new_rows
            ON CONFLICT (tenant_id, tag_id, customer_id) DO UPDATE SET live = excluded.live
            WHERE customer_tags.live <> excluded.live
        $q$;
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER tags_given ON customers;
DROP TRIGGER tags_changed ON customers;
DROP TRIGGER tags_trashed ON customers;
{on_each_statement("tags", "INSERT", "customers", "crm_spread_customer_tags()")}
{on_each_statement("tags", "UPDATE", "customers", "crm_spread_customer_tags()")}
"""

STAGE_HISTORY = f"""
CREATE OR REPLACE FUNCTION crm_stage_history() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    actor jsonb := nullif(current_setting('crm.actor', true), '')::jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO stage_history (tenant_id, deal_id, to_stage_id, user_id, user_name, entered_at)
        SELECT tenant_id, id, stage_id, actor ->> 'user_id', actor ->> 'user_name', stage_entered_at FROM new_rows;
    ELSIF EXISTS (
        SELECT tenant_id, id, stage_id FROM new_rows EXCEPT SELECT tenant_id, id, stage_id FROM old_rows
    ) THEN
        EXECUTE $q$
            UPDATE stage_history SET left_at = deal.stage_entered_at
            FROM new_rows AS deal JOIN old_rows AS before USING (tenant_id, id)
            WHERE deal.stage_id <> before.stage_id AND stage_history.tenant_id = deal.tenant_id
              AND deal_id = deal.id AND left_at IS NULL
        $q$;
        EXECUTE $q$
            INSERT INTO stage_history (tenant_id, deal_id, from_stage_id, to_stage_id, user_id, user_name, entered_at)
            SELECT deal.tenant_id, deal.id, before.stage_id, deal.stage_id, $1, $2, deal.stage_entered_at
            FROM new_rows AS deal JOIN old_rows AS before USING (tenant_id, id)
            WHERE deal.stage_id <> before.stage_id ORDER BY deal.id
        $q$ USING actor ->> 'user_id', actor ->> 'user_name';
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER stage_begun ON deals;
DROP TRIGGER stage_moved ON deals;
{on_each_statement("stage", "INSERT", "deals", "crm_stage_history()")}
{on_each_statement("stage", "UPDATE", "deals", "crm_stage_history()")}
"""

TRASH = """
-- What hangs on a row goes into the trash with it, at the same moment, and by that moment is known when it comes back.
-- Arguments: the tables and columns that refer to it, as 'contacts.customer_id'.
CREATE OR REPLACE FUNCTION crm_trash_along() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    child text;
    elsewhere text;
BEGIN
    IF NOT EXISTS (
        SELECT tenant_id, id, deleted_at FROM new_rows EXCEPT SELECT tenant_id, id, deleted_at FROM old_rows
    ) THEN
        RETURN NULL;
    END IF;
    FOREACH child IN ARRAY TG_ARGV LOOP
        -- What belongs to something else that is still in the trash stays there.
        SELECT string_agg(
            format(' AND NOT EXISTS (SELECT FROM %I AS other WHERE other.id = child.%I'
                   ' AND other.tenant_id = child.tenant_id AND other.deleted_at IS NOT NULL)',
                   parents.name, attname), '')
        INTO elsewhere
        FROM (VALUES ('customers', 'customer_id'), ('deals', 'deal_id'), ('activities', 'activity_id'))
            AS parents (name, reference)
        JOIN pg_attribute ON attrelid = split_part(child, '.', 1)::regclass AND attname = parents.reference;
        EXECUTE format(
            'UPDATE %1$I AS child SET deleted_at = parent.deleted_at'
            ' FROM new_rows AS parent JOIN old_rows AS before USING (tenant_id, id)'
            ' WHERE parent.deleted_at IS DISTINCT FROM before.deleted_at'
            ' AND child.%2$I = parent.id AND child.tenant_id = parent.tenant_id'
            ' AND child.deleted_at IS NOT DISTINCT FROM before.deleted_at'
            ' AND (parent.deleted_at IS NOT NULL OR true %3$s)',
            split_part(child, '.', 1), split_part(child, '.', 2), coalesce(elsewhere, '')
        );
    END LOOP;
    RETURN NULL;
END $$;
"""

# A count's rows are updated in place (HOT), so that neither table nor index grows, and a list reads as many of them as
# there are facets, and writers at one moment. A transaction of many statements leaves a version for each of them: it
# takes a new key now and then, so that the next statement finds the last version and not all those before.
COUNTS = """
CREATE TEMP TABLE totals ON COMMIT DROP AS
    SELECT tenant_id, counted, facet, sum(rows) AS rows FROM record_counts GROUP BY 1, 2, 3 HAVING sum(rows) <> 0;
TRUNCATE record_counts;
ALTER TABLE record_counts DROP CONSTRAINT record_counts_pkey,
    ADD CONSTRAINT record_counts_pkey PRIMARY KEY (tenant_id, counted, facet, id),
    SET (fillfactor = 50), RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold);
INSERT INTO record_counts (tenant_id, counted, facet, rows) SELECT * FROM totals;

-- Adds to a row that no other transaction is changing, or to a new one: nobody waits for anybody.
CREATE FUNCTION crm_add_count(tenant text, which text, part text, change bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    free record;
BEGIN
    SELECT id, xmin = pg_current_xact_id()::xid AS mine INTO free FROM record_counts
    WHERE tenant_id = tenant AND counted = which AND facet = part
    ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO record_counts (tenant_id, counted, facet, rows) VALUES (tenant, which, part, change);
    ELSIF free.mine AND random() < 0.02 THEN
        UPDATE record_counts SET rows = rows + change, id = DEFAULT
        WHERE tenant_id = tenant AND counted = which AND facet = part AND id = free.id;
    ELSE
        UPDATE record_counts SET rows = rows + change
        WHERE tenant_id = tenant AND counted = which AND facet = part AND id = free.id;
        IF NOT free.mine AND random() < 0.01 THEN
            PERFORM crm_fold_counts(which);
        END IF;
    END IF;
END $$;

-- Leaves one row a facet, and none of what is no more. What another transaction is changing is left as it is.
CREATE OR REPLACE FUNCTION crm_fold_counts(which text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    WITH free AS (
        SELECT facet, id, rows FROM record_counts
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
        FOR UPDATE SKIP LOCKED
    ),
    total AS (
        SELECT facet, max(id) AS id, sum(rows) AS rows FROM free
        GROUP BY facet HAVING count(*) > 1 OR sum(rows) = 0
    ),
    gone AS (
        DELETE FROM record_counts USING free JOIN total USING (facet)
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
          AND record_counts.facet = free.facet AND record_counts.id = free.id
          AND (free.id <> total.id OR total.rows = 0)
    )
    UPDATE record_counts SET rows = total.rows FROM total
    WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
      AND record_counts.facet = total.facet AND record_counts.id = total.id AND total.rows <> 0;
END;
REVOKE EXECUTE ON FUNCTION crm_add_count(text, text, text, bigint), crm_fold_counts(text) FROM PUBLIC;

-- How many live customers wear a tag, of those that the caller sees. Not SQL, which would be put into the statement
-- around it: a list of customers would be estimated with it, and compiled for nothing.
CREATE FUNCTION crm_count_tagged(tag bigint) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (
        SELECT count(*)
        FROM customer_tags JOIN customers
            ON customers.tenant_id = customer_tags.tenant_id AND customers.id = customer_id
        WHERE tag_id = tag AND live
    );
END $$;
REVOKE EXECUTE ON FUNCTION crm_count_tagged(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION crm_count_tagged(bigint) TO crm_service;
"""
COUNTS_BEFORE = """
DROP FUNCTION crm_count_tagged(bigint);
DROP FUNCTION crm_add_count(text, text, text, bigint);
ALTER TABLE record_counts DROP CONSTRAINT record_counts_pkey,
    ADD CONSTRAINT record_counts_pkey PRIMARY KEY (tenant_id, counted, id) INCLUDE (facet, rows),
    RESET (fillfactor),
    SET (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000);
"""


def _without_counting() -> str:
    return "".join(
        f"DROP TRIGGER count_{event} ON {table};"
        for table, *_ in FAST.COUNTED
        for event in (("insert",) if table in FAST.APPENDED else ("insert", "update", "delete"))
    )


def upgrade() -> None:
    run("".join(f"DROP TRIGGER audit ON {table};" for table in (*(row[0] for row in AUDITED), "settings")))
    run("DROP TRIGGER audit ON pipeline_stages; DROP TRIGGER audit_new ON pipeline_stages")
    run("".join(f"DROP TRIGGER trash ON {table};" for table in ATTACHMENTS.NOW))
    run(_without_counting())
    for statements in (VERSION, AUDIT, TAGS, STAGE_HISTORY, TRASH):
        run(statements)
    run("ALTER TABLE record_counts NO FORCE ROW LEVEL SECURITY")
    run(COUNTS)
    run("ALTER TABLE record_counts FORCE ROW LEVEL SECURITY")
    for table, resource_type, derived in AUDITED:
        run(audited(table, resource_type, derived))
    run(audited("settings", "settings", events=("UPDATE", "DELETE")))
    run(audited("pipeline_stages", "pipeline_stage", SALES.UNSEEN, built_in="origin"))
    for table, *more in FAST.COUNTED:
        run(counted(table, *more, appended=table in FAST.APPENDED))
    for table, children in ATTACHMENTS.NOW.items():
        run(trashed_with(table, *children))


def downgrade() -> None:
    for table in (*(row[0] for row in AUDITED), "pipeline_stages"):
        run("".join(f"DROP TRIGGER audit_{event} ON {table};" for event in ("insert", "update", "delete")))
    run("".join(f"DROP TRIGGER trash_update ON {table};" for table in ATTACHMENTS.NOW))
    run("""
        DROP TRIGGER audit_update ON settings; DROP TRIGGER audit_delete ON settings;
        DROP TRIGGER tags_insert ON customers; DROP TRIGGER tags_update ON customers;
        DROP TRIGGER stage_insert ON deals; DROP TRIGGER stage_update ON deals;
        DROP FUNCTION crm_audit();
    """)
    run(_without_counting())
    run(COUNTS_BEFORE)
    for statements in (CUSTOMERS.VERSION, CUSTOMERS.AUDIT, SALES.TRASH, SALES.STAGE_HISTORY, FAST.FOLD):
        run(statements.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    run(CUSTOMERS.TAGS_SPREAD)
    run(FAST.SPREAD_LIVE_TAGS)
    for table, *more in FAST.COUNTED:
        run(row_rules.counted(table, *more, appended=table in FAST.APPENDED))
    for table, resource_type, derived in AUDITED:
        run(row_rules.audited(table, resource_type, derived))
    run(row_rules.audited("settings", "settings", events="UPDATE OR DELETE"))
    stages = ("pipeline_stages", "pipeline_stage", SALES.UNSEEN)
    run(row_rules.audited(*stages, events="UPDATE OR DELETE"))
    run(row_rules.audited(*stages, events="INSERT", name="audit_new", when="NEW.origin IS NULL"))
    for table, children in ATTACHMENTS.NOW.items():
        run(row_rules.trashed_with(table, *children))
