-- As in migration 0008, but files of jobs are emptied too.
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
    SELECT coalesce(array_agg(id), '{}') INTO entry_ids FROM (
        SELECT entry.id
        FROM (SELECT crm_kind(key) AS kind, unnest(crm_ids(known, key)) AS id FROM jsonb_object_keys(known) AS key) AS gone
        JOIN audit_entries AS entry ON entry.tenant_id = tenant AND resource_type = gone.kind AND resource_id = gone.id
        WHERE num_nonnulls(old_values, new_values) > 0 AND action <> 'erase'
        LIMIT most_entries + 1
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
END $$;
