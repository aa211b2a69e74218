-- Records are deleted for good, with all that belongs to them: by an erasure, or by retention from the trash.

-- Objects of the store whose rows are gone. Each stays here until the store has deleted it, and an upload until its
-- address no longer takes a file.
CREATE TABLE removed_objects (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    object_key text NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, object_key)
);
CREATE POLICY maintenance ON removed_objects TO crm_maintenance USING (true);
GRANT SELECT, DELETE ON removed_objects TO crm_maintenance;

-- What goes into the trash with a record, by the column that refers to it.
CREATE FUNCTION crm_cascades() RETURNS TABLE (parent text, child text, reference text) LANGUAGE sql STABLE AS $$
    SELECT relname::text, split_part(named, '.', 1), split_part(named, '.', 2)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid,
        unnest(string_to_array(encode(tgargs, 'escape'), '\000')) AS named
    WHERE tgfoid = 'public.crm_cascade_soft_delete()'::regprocedure AND named <> ''
$$;

-- What the audit log calls the records of a table.
CREATE FUNCTION crm_kind(resource text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT split_part(encode(tgargs, 'escape'), '\000', 1)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgname = 'audit_delete' AND relname = resource AND relnamespace = 'public'::regnamespace
$$;

-- The ids that a tree, an object of ids by table, has of this table.
CREATE FUNCTION crm_ids(tree jsonb, resource text) RETURNS bigint[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT id::bigint FROM jsonb_array_elements_text(coalesce(tree -> resource, '[]')) AS id);

-- Adds records to a tree, and what belongs to them, live or in the trash; with `trashed`, only what is in the trash.
-- They are locked, so that nothing is added to them meanwhile. Of what belongs to a record, no more than `most` and one
-- more are added for each reference.
CREATE FUNCTION crm_tree(
    tenant text, resource text, record_ids bigint[], most bigint, tree jsonb, trashed boolean
) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    edge record;
    found bigint[];
BEGIN
    EXECUTE format(
        'SELECT array_agg(id) FROM (SELECT id FROM %I WHERE tenant_id = $1 AND id = ANY ($2)'
        ' AND (deleted_at IS NOT NULL OR NOT $3) ORDER BY id FOR UPDATE) AS locked', resource
    ) INTO found USING tenant, record_ids, trashed;
    IF found IS NULL THEN
        RETURN tree;
    END IF;
    tree := tree || jsonb_build_object(resource, to_jsonb(crm_ids(tree, resource) || found));
    record_ids := found;
    FOR edge IN SELECT child, reference FROM crm_cascades() WHERE parent = resource ORDER BY child, reference LOOP
        EXECUTE format(
            'SELECT array_agg(id) FROM (SELECT id FROM %I WHERE tenant_id = $1 AND %I = ANY ($2) AND id <> ALL ($3)'
            ' ORDER BY id LIMIT $4 + 1) AS belonging', edge.child, edge.reference
        ) INTO found USING tenant, record_ids, crm_ids(tree, edge.child), most;
        IF found IS NOT NULL THEN
            tree := crm_tree(tenant, edge.child, found, most, tree, trashed);
        END IF;
    END LOOP;
    RETURN tree;
END $$;

CREATE FUNCTION crm_size(tree jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(sum(jsonb_array_length(value)), 0) FROM jsonb_each(tree));

-- Deletes the records of a tree for good. Rows that are no records, such as the stage history, go with them; other
-- records that refer to them, as a deal to a contact, no longer do. The audit entries name the kind of removal and have
-- no values. All is one statement, so that the order of the tables does not matter to their foreign keys.
CREATE FUNCTION crm_remove(tenant text, tree jsonb, removal text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    actor CONSTANT text := current_setting('crm.actor', true);
    reference record;
    removing text;
BEGIN
    PERFORM set_config('crm.actor', (coalesce(nullif(actor, '')::jsonb, '{}')
        || jsonb_build_object('removal', removal))::text, true);
    FOR reference IN
        SELECT child.relname::text AS child, parent.relname::text AS parent, attname::text AS name,
               EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'deleted_at') AS is_record,
               EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'object_key') AS has_object
        FROM pg_constraint JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid
            JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[cardinality(conkey)]
        WHERE contype = 'f' AND child.relnamespace = 'public'::regnamespace AND tree ? parent.relname
            AND (parent.relname, child.relname, attname) NOT IN (
                SELECT edge.parent, edge.child, edge.reference FROM crm_cascades() AS edge)
    LOOP
        IF reference.is_record THEN
            EXECUTE format('UPDATE %I SET %I = NULL WHERE tenant_id = $1 AND %I = ANY ($2) AND id <> ALL ($3)',
                reference.child, reference.name, reference.name)
            USING tenant, crm_ids(tree, reference.parent), crm_ids(tree, reference.child);
            CONTINUE;
        END IF;
        IF reference.has_object THEN
            EXECUTE format('INSERT INTO removed_objects (tenant_id, object_key, due_at)'
                ' SELECT tenant_id, object_key, expires_at FROM %I WHERE tenant_id = $1 AND %I = ANY ($2)'
                ' ON CONFLICT DO NOTHING', reference.child, reference.name)
            USING tenant, crm_ids(tree, reference.parent);
        END IF;
        EXECUTE format('DELETE FROM %I WHERE tenant_id = $1 AND %I = ANY ($2)', reference.child, reference.name)
        USING tenant, crm_ids(tree, reference.parent);
    END LOOP;
    INSERT INTO removed_objects (tenant_id, object_key)
    SELECT tenant_id, object_key FROM attachments WHERE tenant_id = tenant AND id = ANY (crm_ids(tree, 'attachments'))
    ON CONFLICT DO NOTHING;
    SELECT 'WITH ' || string_agg(format(
        '%I AS (DELETE FROM %I WHERE tenant_id = $1 AND id = ANY (crm_ids($2, %L)))', 'from_' || key, key, key
    ), ', ') || ' SELECT' INTO removing FROM jsonb_object_keys(tree) AS key;
    EXECUTE removing USING tenant, tree;
    PERFORM set_config('crm.actor', coalesce(actor, ''), true);
END $$;

-- Records of a kind that the log says belonged to one of these when they went into the trash. It runs as the role that
-- sees all tenants' logs, since row-level security would keep it from the index.
CREATE FUNCTION crm_deleted_under(tenant text, kind text, reference text, parents text[]) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT DISTINCT resource_id FROM audit_entries'
        ' WHERE tenant_id = $1 AND action = ''delete'' AND old_values ->> %L = ANY ($2) AND resource_type = $3', reference
    ) USING tenant, parents, kind;
END $$;

-- Adds to a tree what once belonged to it and was deleted for good before.
CREATE FUNCTION crm_tree_in_log(tenant text, tree jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    edge record;
    found bigint[];
    grown boolean := true;
BEGIN
    WHILE grown LOOP
        grown := false;
        FOR edge IN SELECT parent, child, reference FROM crm_cascades() WHERE tree ? parent LOOP
            EXECUTE format(
                'SELECT array_agg(gone) FROM crm_deleted_under($1, $2, $3, $4) AS gone WHERE gone <> ALL ($5)'
                ' AND NOT EXISTS (SELECT FROM %I AS present WHERE tenant_id = $1 AND present.id = gone)', edge.child
            ) INTO found USING tenant, crm_kind(edge.child), edge.reference, crm_ids(tree, edge.parent)::text[],
                crm_ids(tree, edge.child);
            IF found IS NOT NULL THEN
                tree := tree || jsonb_build_object(edge.child, to_jsonb(crm_ids(tree, edge.child) || found));
                grown := true;
            END IF;
        END LOOP;
    END LOOP;
    RETURN tree;
END $$;

-- The ids that a kept answer mentions, of records of all kinds: numbers, or texts as the console has them.
CREATE FUNCTION crm_mentioned(body bytea) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT
RETURN ARRAY(
    SELECT DISTINCT mentioned[1]::bigint
    FROM regexp_matches(convert_from(body, 'UTF8'), '"(?:[a-z]+_)*id":"?(\d{1,18})\M', 'g') AS mentioned
);
ALTER TABLE idempotency_keys ADD COLUMN mentions bigint[] GENERATED ALWAYS AS (crm_mentioned(body)) STORED;

-- When a record was made, live, in the trash, or deleted for good: the log knows it then.
CREATE FUNCTION crm_made_at(tenant text, resource text, record_id bigint) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    made_at timestamptz;
BEGIN
    EXECUTE format('SELECT created_at FROM %I WHERE tenant_id = $1 AND id = $2', resource)
    INTO made_at USING tenant, record_id;
    RETURN coalesce(made_at, (
        SELECT (old_values ->> 'created_at')::timestamptz FROM audit_entries
        WHERE tenant_id = tenant AND resource_type = crm_kind(resource) AND resource_id = record_id
            AND action = 'delete' AND old_values IS NOT NULL
        ORDER BY id DESC LIMIT 1
    ));
END $$;

-- Erases a record of the transaction's tenant, which was made at this moment: deletes it for good, with what belongs to
-- it, and empties the kept answers that mention any of it and the audit entries about it. Answers how many records of
-- each table it were, how many audit entries, and the entry that says so, which has the reason. Each entry names at most
-- 10,000 others: there are more of them if necessary. It does nothing, and answers no entry, if there is no such record
-- or if it is more than the two limits.
CREATE FUNCTION crm_erase_record(resource text, record_id bigint, made_at timestamptz, reason text,
    most_records bigint, most_entries bigint, OUT records bigint, OUT counts jsonb, OUT entries bigint, OUT erasure bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
    at_once CONSTANT bigint := 10000;
    tree jsonb;
    known jsonb;
    known_ids bigint[];
    entry_ids bigint[];
    held boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_cascades() WHERE resource IN (parent, child)) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no records of this name are erased';
    END IF;
    -- A tenant's erasures go one after the other, so that the second one of a record finds nothing.
    PERFORM pg_advisory_xact_lock(hashtextextended('crm_erase_record ' || tenant, 0));
    tree := crm_tree(tenant, resource, ARRAY[record_id], most_records, '{}', false);
    records := crm_size(tree);
    SELECT coalesce(jsonb_object_agg(key, jsonb_array_length(value)), '{}') INTO counts FROM jsonb_each(tree);
    entries := 0;
    IF crm_made_at(tenant, resource, record_id) IS DISTINCT FROM made_at OR made_at IS NULL THEN
        records := 0;
        RETURN;
    END IF;
    EXECUTE format('SELECT crm_is_held($1, $2, to_jsonb(root)) FROM %I AS root WHERE tenant_id = $1 AND id = $3', resource)
    INTO held USING tenant, resource, record_id;
    IF held THEN
        RAISE check_violation USING CONSTRAINT = 'held', MESSAGE = 'it belongs to a customer on hold';
    END IF;
    known := crm_tree_in_log(tenant, jsonb_build_object(resource, ARRAY[record_id]) || tree);
    SELECT coalesce(array_agg(id), '{}') INTO entry_ids FROM (
        SELECT entry.id FROM jsonb_object_keys(known) AS key CROSS JOIN LATERAL (
            SELECT id FROM audit_entries
            WHERE tenant_id = tenant AND resource_type = crm_kind(key) AND resource_id = ANY (crm_ids(known, key))
                AND num_nonnulls(old_values, new_values) > 0 AND action <> 'erase'
        ) AS entry LIMIT most_entries + 1
    ) AS about;
    entries := cardinality(entry_ids);
    IF records > most_records OR entries > most_entries THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT id::bigint) INTO known_ids FROM jsonb_each(known), jsonb_array_elements_text(value) AS id;
    UPDATE idempotency_keys SET body = NULL
    WHERE tenant_id = tenant AND body IS NOT NULL AND (
        operation_id IN (SELECT operation_id FROM audit_entries WHERE tenant_id = tenant AND id = ANY (entry_ids))
        OR EXISTS (SELECT FROM unnest(mentions) AS mentioned WHERE mentioned = ANY (known_ids))
    );
    IF records > 0 THEN
        PERFORM crm_remove(tenant, tree, 'erase');
    END IF;
    erasure := crm_erase_entries(crm_kind(resource), record_id,
        jsonb_build_object('reason', reason, 'erased', counts, 'created_at', made_at), entry_ids[1 : at_once]);
    FOR place IN 1 .. (entries - 1) / at_once LOOP
        PERFORM crm_erase_entries(crm_kind(resource), record_id, jsonb_build_object('continues', erasure),
            entry_ids[place * at_once + 1 : (place + 1) * at_once]);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION crm_erase_record(text, bigint, timestamptz, text, bigint, bigint) TO crm_service;

-- Objects to delete in the store, of all tenants; and those that the store has deleted.
CREATE FUNCTION crm_list_removed_objects(most bigint) RETURNS SETOF text LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT object_key FROM removed_objects ORDER BY due_at, object_key LIMIT most;
END $$;
CREATE FUNCTION crm_forget_removed_objects(keys text[], OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM removed_objects WHERE object_key = ANY (keys) AND due_at <= now();
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
GRANT EXECUTE ON FUNCTION crm_list_removed_objects(bigint), crm_forget_removed_objects(text[]) TO crm_service;

-- The part of a tree that nothing else of it belongs to: no more than `most` records. `resources` are tables, each after
-- those that it belongs to.
CREATE FUNCTION crm_leaves(tree jsonb, resources text[], most bigint) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    leaves jsonb := '{}';
    taken bigint[];
BEGIN
    FOR place IN REVERSE cardinality(resources)..1 LOOP
        taken := (crm_ids(tree, resources[place]))[1 : most - crm_size(leaves)];
        IF cardinality(taken) > 0 THEN
            leaves := leaves || jsonb_build_object(resources[place], to_jsonb(taken));
        END IF;
    END LOOP;
    RETURN leaves;
END $$;

-- The same as `crm_is_held` for many rows: a condition on the rows of a table that a query calls `alias`.
CREATE FUNCTION crm_held_condition(resource text, alias text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF resource = 'customers' THEN
        RETURN format('%I.hold', alias);
    END IF;
    RETURN (
        SELECT coalesce(string_agg(format(
            'EXISTS (SELECT FROM %1$I AS %2$I WHERE %2$I.tenant_id = %3$I.tenant_id AND %2$I.id = %3$I.%4$I AND (%5$s))',
            parent, alias || '_owner', alias, reference, crm_held_condition(parent, alias || '_owner')
        ), ' OR '), 'false')
        FROM crm_cascades() WHERE child = resource AND parent <> resource
    );
END $$;

-- Deletes for good what a tenant has had in the trash, unchanged, since before this moment, about `most` records;
-- answers how many. A record goes together with what belongs to it, unless that is too much at once. What is on hold
-- stays, and so does what somebody is changing: it may be a restore.
CREATE FUNCTION crm_purge_tenant(tenant text, trashed_before timestamptz, resources text[], most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    actor CONSTANT text := current_setting('crm.actor', true);
    previous CONSTANT text := current_setting('crm.tenant', true);
    resource text;
    roots bigint[];
    skipped bigint[];
    tree jsonb;
    kept text;
    gone bigint := 0;
    at_once bigint := 100;
BEGIN
    PERFORM set_config('crm.tenant', tenant, true), set_config('crm.actor', (coalesce(nullif(actor, '')::jsonb, '{}')
        || jsonb_build_object('via', 'job', 'operation_id', gen_random_uuid()))::text, true);
    FOREACH resource IN ARRAY resources LOOP
        IF NOT EXISTS (SELECT FROM crm_cascades() AS edge WHERE resource IN (edge.parent, edge.child)) THEN
            RAISE invalid_parameter_value USING MESSAGE = 'no records of this name have a trash';
        END IF;
        skipped := '{}';
        kept := CASE WHEN EXISTS (SELECT FROM customers WHERE tenant_id = tenant AND hold)
            THEN crm_held_condition(resource, 'candidate') ELSE 'false' END;
        WHILE gone < most LOOP
            EXECUTE format(
                'SELECT array_agg(id) FROM (SELECT id FROM %I AS candidate'
                ' WHERE tenant_id = $1 AND deleted_at < $2 AND updated_at < $2 AND id <> ALL ($3) AND NOT (%s)'
                ' ORDER BY deleted_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) AS oldest', resource, kept
            ) INTO roots USING tenant, trashed_before, skipped, at_once;
            EXIT WHEN roots IS NULL;
            tree := crm_tree(tenant, resource, roots, most, '{}', true);
            IF crm_size(tree) > most AND at_once > 1 THEN
                at_once := at_once / 10;
                CONTINUE;
            ELSIF crm_size(tree) > most THEN
                tree := crm_leaves(tree, resources, most);
            END IF;
            BEGIN
                PERFORM crm_remove(tenant, tree, 'purge');
                gone := gone + crm_size(tree);
            EXCEPTION WHEN check_violation OR foreign_key_violation THEN
                -- Something of it belongs to a customer on hold too, or is live: the others are tried one by one.
                IF at_once = 1 THEN
                    skipped := skipped || roots;
                END IF;
                at_once := 1;
            END;
        END LOOP;
    END LOOP;
    PERFORM set_config('crm.tenant', coalesce(previous, ''), true), set_config('crm.actor', coalesce(actor, ''), true);
    RETURN gone;
END $$;

-- The same for all tenants that say how long their trash is kept.
CREATE FUNCTION crm_purge_trash(resources text[], most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    kept record;
    gone bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('crm_purge_trash', 0)) THEN
        RETURN 0;
    END IF;
    most := least(most, 1000);
    -- In any order, so that no tenant keeps the others waiting.
    FOR kept IN SELECT tenant_id, trash_days FROM settings WHERE trash_days IS NOT NULL ORDER BY random() LOOP
        gone := gone + crm_purge_tenant(
            kept.tenant_id, now() - make_interval(days => kept.trash_days), resources, most - gone);
        EXIT WHEN gone >= most;
    END LOOP;
    RETURN gone;
END $$;
GRANT EXECUTE ON FUNCTION crm_purge_trash(text[], bigint) TO crm_service;
GRANT SELECT (tenant_id, trash_days) ON settings TO crm_maintenance;
GRANT EXECUTE ON FUNCTION crm_purge_tenant(text, timestamptz, text[], bigint) TO crm_maintenance;
