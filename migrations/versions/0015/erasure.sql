CREATE INDEX webhook_deliveries_resource_idx ON webhook_deliveries (tenant_id, resource_type, resource_id);

-- The records of a tree, as the audit log names them.
CREATE FUNCTION crm_named(tree jsonb) RETURNS TABLE (kind text, id bigint) LANGUAGE sql STABLE AS $$
    SELECT kind, unnest(crm_ids(tree, key)) FROM jsonb_object_keys(tree) AS key, crm_kind(key) AS kind
$$;

-- The audit entries that have values of the records of a tree, at most so many.
CREATE FUNCTION crm_entries_about(tenant text, tree jsonb, most bigint) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT entry.id
        FROM crm_named(tree) AS gone
        JOIN audit_entries AS entry ON entry.tenant_id = tenant AND resource_type = gone.kind AND resource_id = gone.id
        WHERE num_nonnulls(old_values, new_values) > 0 AND action <> 'erase'
        LIMIT most
    );
END $$;

-- As in migration 0008, but files of jobs, and what receivers of webhooks answered, are emptied too.
CREATE OR REPLACE FUNCTION crm_erase_record(resource text, record_id bigint, made_at timestamptz, reason text,
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
    entry_ids := crm_entries_about(tenant, known, most_entries + 1);
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
    UPDATE job_files SET content = NULL
    WHERE tenant_id = tenant AND content IS NOT NULL AND mentions && known_ids;
    IF records > 0 THEN
        PERFORM crm_remove(tenant, tree, 'erase');
    END IF;
    erasure := crm_erase_entries(crm_kind(resource), record_id,
        jsonb_build_object('reason', reason, 'erased', counts, 'created_at', made_at), entry_ids[1 : at_once]);
    FOR place IN 1 .. (entries - 1) / at_once LOOP
        PERFORM crm_erase_entries(crm_kind(resource), record_id, jsonb_build_object('continues', erasure),
            entry_ids[place * at_once + 1 : (place + 1) * at_once]);
    END LOOP;
    -- Who holds a webhook's state is the only one who takes its deliveries: until this is committed, nobody reads such an
    -- event to send it. What is being sent now is sent anew, and what its receiver answers is not kept.
    PERFORM FROM webhook_states WHERE tenant_id = tenant ORDER BY webhook_id FOR UPDATE;
    UPDATE webhook_deliveries AS delivery SET claims = claims + 1, claimed_until = NULL, attempts = (
        SELECT coalesce(jsonb_agg(attempt || '{"response": null}' ORDER BY place), '[]')
        FROM jsonb_array_elements(attempts) WITH ORDINALITY AS made (attempt, place)
    )
    FROM crm_named(known) AS gone
    WHERE tenant_id = tenant AND resource_type = gone.kind AND resource_id = gone.id
        AND (status = 'pending' OR jsonb_path_exists(attempts, '$[*].response ? (@ != null)'));
END $$;

-- How much the erasure of a record would reach, at most one more than the limits of each reference and of entries.
CREATE FUNCTION crm_measure_erasure(resource text, record_id bigint, most_records bigint, most_entries bigint,
    OUT records bigint, OUT entries bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
    tree jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM crm_cascades() WHERE resource IN (parent, child)) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no records of this name are erased';
    END IF;
    tree := crm_tree(tenant, resource, ARRAY[record_id], most_records, '{}', false);
    records := crm_size(tree);
    IF records <= most_records THEN
        entries := cardinality(crm_entries_about(tenant,
            crm_tree_in_log(tenant, jsonb_build_object(resource, ARRAY[record_id]) || tree), most_entries + 1));
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION crm_measure_erasure(text, bigint, bigint, bigint) TO crm_service;
