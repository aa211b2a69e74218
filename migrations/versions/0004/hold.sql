-- A customer on hold, and what belongs to it, can't be put into the trash, deleted, or moved away.

ALTER TABLE customers ADD COLUMN hold boolean NOT NULL DEFAULT false;
CREATE INDEX customers_hold_idx ON customers (tenant_id, created_at, id) WHERE hold;

ALTER TABLE settings
    ADD COLUMN country varchar(2) CHECK (country ~ '^[A-Z]{2}$'),
    ADD COLUMN trash_days integer CHECK (trash_days BETWEEN 7 AND 36500),
    ADD COLUMN audit_days integer CHECK (audit_days BETWEEN 365 AND 36500);

-- Whether a record is a customer on hold or belongs to one, directly or through another record. What a record belongs
-- to are the tables whose trigger takes it along into the trash.
CREATE FUNCTION crm_is_held(tenant text, resource text, record jsonb) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    owner record;
    found jsonb;
BEGIN
    IF resource = 'customers' THEN
        RETURN (record ->> 'hold')::boolean;
    END IF;
    FOR owner IN
        SELECT relname AS name, record ->> split_part(named, '.', 2) AS id
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid,
            unnest(string_to_array(encode(tgargs, 'escape'), '\000')) AS named
        WHERE tgfoid = 'public.crm_cascade_soft_delete()'::regprocedure AND split_part(named, '.', 1) = resource
    LOOP
        IF owner.id IS NOT NULL THEN
            EXECUTE format('SELECT to_jsonb(owner) FROM %I AS owner WHERE tenant_id = $1 AND id = $2', owner.name)
            INTO found USING tenant, owner.id::bigint;
            IF crm_is_held(tenant, owner.name, found) THEN
                RETURN true;
            END IF;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Refuses a row's way into the trash, its deletion, or its move to where nothing is on hold, while its customer is. It
-- runs as the tables' owner, because a person may not see the customer that an own record belongs to.
CREATE FUNCTION crm_keep_held() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM customers WHERE tenant_id = OLD.tenant_id AND hold)
        AND crm_is_held(OLD.tenant_id, TG_TABLE_NAME, to_jsonb(OLD))
        AND (TG_OP = 'DELETE' OR OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
            OR NOT crm_is_held(NEW.tenant_id, TG_TABLE_NAME, to_jsonb(NEW)))
    THEN
        RAISE check_violation USING CONSTRAINT = 'held',
            MESSAGE = format('%s %s belongs to a customer on hold', TG_TABLE_NAME, OLD.id);
    END IF;
    RETURN NULL;
END $$;
