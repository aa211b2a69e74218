"""Keys of clients' own, amounts of four decimals, contacts with one name, why deals were lost, kinds of customers."""

from importlib import import_module

from migrations.rules import rederived, run

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

RECORDS = ("customers", "contacts", "deals", "activities", "notes")
DERIVED_BEFORE = ("title_folded", "stage_entered_at", "amount_thousandths")
DERIVED = ("title_folded", "stage_entered_at", "amount_order")

EXTERNAL_IDS = "".join(
    f"""
    ALTER TABLE {table} ADD COLUMN external_id varchar(255);
    CREATE UNIQUE INDEX {table}_live_external_id_key ON {table} (tenant_id, external_id) WHERE deleted_at IS NULL;
    """
    for table in RECORDS
)

CUSTOMERS = """
ALTER TABLE customers
    ADD COLUMN kind text CONSTRAINT customers_kind_check CHECK (kind IN ('person', 'organization')),
    ADD COLUMN industry varchar(100),
    ADD COLUMN website varchar(255);
CREATE INDEX customers_live_kind_idx ON customers (tenant_id, kind, created_at, id) WHERE deleted_at IS NULL;
"""

CONTACTS = """
ALTER TABLE contacts
    DROP CONSTRAINT contacts_first_name_check,
    ALTER COLUMN first_name SET DEFAULT '',
    ADD CONSTRAINT contacts_name_check CHECK (first_name <> '' OR last_name <> '');
"""

# All amounts, of which there are 10¹⁹, are as many bigints, though not as many positive ones.
AMOUNTS = """
DROP INDEX deals_live_amount_idx;
ALTER TABLE deals
    DROP COLUMN amount_thousandths,
    ALTER COLUMN amount TYPE numeric(19, 4),
    ADD CONSTRAINT deals_amount_limit_check CHECK (amount < 1000000000000000),
    ADD COLUMN amount_order bigint NOT NULL GENERATED ALWAYS AS
        ((amount * 10000 - 5000000000000000000)::bigint) STORED;
CREATE INDEX deals_live_amount_idx ON deals (tenant_id, amount_order, id) WHERE deleted_at IS NULL;
CREATE INDEX deals_live_currency_idx ON deals (tenant_id, currency, created_at, id) WHERE deleted_at IS NULL;
"""
AMOUNTS_BEFORE = """
DROP INDEX deals_live_amount_idx, deals_live_currency_idx;
ALTER TABLE deals
    DROP COLUMN amount_order,
    DROP CONSTRAINT deals_amount_limit_check,
    ALTER COLUMN amount TYPE numeric(18, 3),
    ADD COLUMN amount_thousandths bigint NOT NULL GENERATED ALWAYS AS ((amount * 1000)::bigint) STORED;
CREATE INDEX deals_live_amount_idx ON deals (tenant_id, amount_thousandths, id) WHERE deleted_at IS NULL;
"""

REASONS = """
ALTER TABLE stage_history ADD COLUMN reason varchar(255);
ALTER TABLE stage_history NO FORCE ROW LEVEL SECURITY;
ALTER TABLE deals NO FORCE ROW LEVEL SECURITY;
ALTER TABLE pipeline_stages NO FORCE ROW LEVEL SECURITY;
UPDATE stage_history SET reason = lost_reason
FROM deals JOIN pipeline_stages AS stage ON stage.tenant_id = deals.tenant_id AND stage.id = stage_id
WHERE deals.tenant_id = stage_history.tenant_id AND deals.id = deal_id AND left_at IS NULL
  AND kind = 'lost' AND lost_reason IS NOT NULL;
ALTER TABLE stage_history FORCE ROW LEVEL SECURITY;
ALTER TABLE deals FORCE ROW LEVEL SECURITY;
ALTER TABLE pipeline_stages FORCE ROW LEVEL SECURITY;

CREATE OR REPLACE FUNCTION crm_stage_history() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    actor jsonb := nullif(current_setting('crm.actor', true), '')::jsonb;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO stage_history (tenant_id, deal_id, to_stage_id, user_id, user_name, entered_at, reason)
        SELECT tenant_id, id, stage_id, actor ->> 'user_id', actor ->> 'user_name', stage_entered_at, lost_reason
        FROM new_rows;
    ELSIF EXISTS (
        SELECT tenant_id, id, stage_id, lost_reason FROM new_rows
        EXCEPT SELECT tenant_id, id, stage_id, lost_reason FROM old_rows
    ) THEN
        EXECUTE $q$
            UPDATE stage_history
            SET left_at = CASE WHEN deal.stage_id <> before.stage_id THEN deal.stage_entered_at END,
                reason = CASE WHEN deal.stage_id <> before.stage_id THEN reason ELSE deal.lost_reason END
            FROM new_rows AS deal JOIN old_rows AS before USING (tenant_id, id)
            WHERE (deal.stage_id, deal.lost_reason) IS DISTINCT FROM (before.stage_id, before.lost_reason)
              AND stage_history.tenant_id = deal.tenant_id AND deal_id = deal.id AND left_at IS NULL
        $q$;
        EXECUTE $q$
            INSERT INTO stage_history (tenant_id, deal_id, from_stage_id, to_stage_id, user_id, user_name, entered_at,
                                       reason)
            SELECT deal.tenant_id, deal.id, before.stage_id, deal.stage_id, $1, $2, deal.stage_entered_at,
                   deal.lost_reason
            FROM new_rows AS deal JOIN old_rows AS before USING (tenant_id, id)
            WHERE deal.stage_id <> before.stage_id ORDER BY deal.id
        $q$ USING actor ->> 'user_id', actor ->> 'user_name';
    END IF;
    RETURN NULL;
END $$;
"""


def upgrade() -> None:
    for statements in (EXTERNAL_IDS, CUSTOMERS, CONTACTS, AMOUNTS, REASONS, rederived("deals", "deal", DERIVED)):
        run(statements)


def downgrade() -> None:
    run(import_module("migrations.versions.0009_bulk").STAGE_HISTORY.partition("DROP TRIGGER")[0])
    run("ALTER TABLE stage_history DROP COLUMN reason")
    run(AMOUNTS_BEFORE)
    run(rederived("deals", "deal", DERIVED_BEFORE))
    run("""
        ALTER TABLE contacts
            DROP CONSTRAINT contacts_name_check,
            ALTER COLUMN first_name DROP DEFAULT,
            -- Those without a first name may stay; the next one is refused again.
            ADD CONSTRAINT contacts_first_name_check CHECK (first_name <> '') NOT VALID;
        ALTER TABLE customers DROP COLUMN kind, DROP COLUMN industry, DROP COLUMN website;
    """)
    for table in RECORDS:
        run(f"ALTER TABLE {table} DROP COLUMN external_id")
