-- What every table shares: the triggers that raise versions, write audit entries and cascade soft deletes.

-- By default nobody may call a function: EXECUTE is granted to the roles that need it.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- Raises version and updated_at when a row really changes. Argument: the columns that do not count. A row keeps its
-- key, because its audit entries refer to it.
CREATE FUNCTION crm_version() RETURNS trigger LANGUAGE plpgsql AS $$
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

-- Writes the audit entries of a statement's rows. Arguments: resource type, columns that are left out, and the column
-- that marks built-in rows, whose INSERT is not audited. It runs as the tables' owner, because the service may not
-- write audit entries; the transaction's setting crm.actor says who acts. PostgreSQL caches the plan, which was made
-- for few rows: with many, its nested loop would take forever.
CREATE FUNCTION crm_audit() RETURNS trigger LANGUAGE plpgsql
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

-- Puts the children of a row into the trash with it, with the same deleted_at. When the row is restored, it restores
-- the children with the same deleted_at. Arguments: the columns that refer to it, as 'contacts.customer_id'.
CREATE FUNCTION crm_cascade_soft_delete() RETURNS trigger LANGUAGE plpgsql AS $$
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
        -- A child of several parents stays in the trash as long as one of them is there. Its parents are the tables
        -- whose triggers name it.
        SELECT string_agg(
            format(' AND NOT EXISTS (SELECT FROM %s AS other WHERE other.id = child.%I'
                   ' AND other.tenant_id = child.tenant_id AND other.deleted_at IS NOT NULL)',
                   tgrelid::regclass, split_part(named, '.', 2)), '')
        INTO elsewhere
        FROM pg_trigger, unnest(string_to_array(encode(tgargs, 'escape'), '\000')) AS named
        WHERE tgfoid = 'public.crm_cascade_soft_delete()'::regprocedure
          AND split_part(named, '.', 1) = split_part(child, '.', 1);
        EXECUTE format(
            'UPDATE %1$I AS child SET deleted_at = parent.deleted_at'
            ' FROM new_rows AS parent JOIN old_rows AS before USING (tenant_id, id)'
            ' WHERE parent.deleted_at IS DISTINCT FROM before.deleted_at'
            ' AND child.%2$I = parent.id AND child.tenant_id = parent.tenant_id'
            ' AND child.deleted_at IS NOT DISTINCT FROM before.deleted_at'
            ' AND (parent.deleted_at IS NOT NULL OR true %3$s)',
            split_part(child, '.', 1), split_part(child, '.', 2), elsewhere
        );
    END LOOP;
    RETURN NULL;
END $$;

-- Whether a record belongs to the person who asks: whether the table's policy `own` lets that person see it.
CREATE FUNCTION crm_owns(resource text, record_id bigint) RETURNS boolean LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found boolean;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid
        WHERE polname = 'own' AND relname = resource AND relnamespace = 'public'::regnamespace
    ) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no record of this resource belongs to a person';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE id = $1)', resource) INTO found USING record_id;
    RETURN found;
END $$;
GRANT EXECUTE ON FUNCTION crm_owns(text, bigint) TO crm_service;

-- A user id inside a JSON document, as clients see it: a number where JavaScript holds it exactly.
CREATE FUNCTION crm_user_json(user_id text) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN user_id ~ '^[1-9][0-9]{0,14}$' THEN to_jsonb(user_id::bigint) ELSE to_jsonb(user_id) END;
