-- What reports add up, kept by triggers: docs/reports.md says how.

-- What a statement changed in a series, not added to the sums yet. A report adds it by itself.
CREATE TABLE report_changes (
    tenant_id varchar(64) NOT NULL,
    series text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Whose the rows are; '' is nobody's.
    person text NOT NULL,
    -- The hour that they are in, since 1970 in UTC.
    hour integer NOT NULL,
    -- Whether their time is a whole day, stored as its midnight in UTC.
    whole_day boolean NOT NULL,
    -- Of deals the stage, of activities the type, of customers the status.
    facet text NOT NULL,
    -- Of deals the currency, of activities the status.
    part text NOT NULL,
    rows bigint NOT NULL,
    amount numeric NOT NULL,
    -- By the probability, in per cent.
    weighted numeric NOT NULL,
    -- How many have a closing date, and how long they took.
    closed bigint NOT NULL,
    seconds numeric NOT NULL,
    CONSTRAINT report_changes_pkey PRIMARY KEY (tenant_id, series, id)
);

-- The same, added up for so many hours each (`span`), everybody's and each person's.
CREATE TABLE report_sums (
    tenant_id varchar(64) NOT NULL,
    series text NOT NULL,
    by_person boolean NOT NULL,
    -- 0 is all of time.
    span integer NOT NULL,
    person text NOT NULL,
    hour integer NOT NULL,
    whole_day boolean NOT NULL,
    facet text NOT NULL,
    part text NOT NULL,
    rows bigint NOT NULL,
    amount numeric NOT NULL,
    weighted numeric NOT NULL,
    closed bigint NOT NULL,
    seconds numeric NOT NULL,
    CONSTRAINT report_sums_pkey
        PRIMARY KEY (tenant_id, series, by_person, span, person, hour, whole_day, facet, part)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- What the live deals of each customer are worth in each currency, and how many it has in all. Currency '' is a row for
-- every customer with deals, of value 0.
CREATE TABLE customer_values (
    tenant_id varchar(64) NOT NULL,
    customer_id bigint NOT NULL,
    currency varchar(3) NOT NULL,
    value numeric NOT NULL,
    deals bigint NOT NULL,
    CONSTRAINT customer_values_pkey PRIMARY KEY (tenant_id, customer_id, currency)
);
CREATE INDEX customer_values_best_idx ON customer_values (tenant_id, currency, value DESC, deals DESC, customer_id);

-- The hours at the ends of a period are read from the rows themselves.
CREATE INDEX deals_live_actual_close_date_idx ON deals (tenant_id, actual_close_date)
    WHERE deleted_at IS NULL AND actual_close_date IS NOT NULL;

-- The triggers add what changed for whatever tenants a statement changes, as the tables' owner.
CREATE POLICY changed ON report_changes FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY maintenance ON report_changes TO crm_maintenance USING (true);
CREATE POLICY maintenance ON report_sums TO crm_maintenance USING (true);
CREATE POLICY maintenance ON customer_values TO crm_maintenance USING (true);
GRANT SELECT, DELETE ON report_changes TO crm_maintenance;
GRANT SELECT, INSERT, UPDATE, DELETE ON report_sums, customer_values TO crm_maintenance;
