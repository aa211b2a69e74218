-- Seals the next entries, in the order of their ids. Answers how many, the last one that is sealed, and the newest one;
-- nulls while another transaction is sealing. The service may call it, but can't make a wrong seal with it. Entries
-- that have a seal of version 1 only come first, because theirs are the lowest ids: their new seal covers the old one.
CREATE OR REPLACE FUNCTION crm_seal_audit(most bigint, OUT count bigint, OUT sealed bigint, OUT newest bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    progress record;
    entry record;
    previous record;
    last bigint;
    place bigint;
    seal bytea;
BEGIN
    SELECT * INTO progress FROM audit_progress FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(max(id), 0) INTO newest FROM audit_entries;
    SELECT coalesce(max(entry_id), 0) INTO sealed FROM audit_seals WHERE hash IS NOT NULL;
    SELECT greatest(max(entry_id), sealed) INTO last FROM audit_seals WHERE hash IS NULL;
    count := 0;
    IF newest <= sealed THEN
        RETURN;
    END IF;
    -- After a restore on another server, the saved transaction id can be larger than ours.
    IF progress.mark IS NULL OR progress.transaction > pg_current_xact_id()::text::bigint THEN
        -- Every id up to `newest` belongs to a transaction older than ours.
        progress.mark := newest;
        progress.transaction := pg_current_xact_id()::text::bigint;
    END IF;
    IF pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= progress.transaction THEN
        progress.complete := progress.mark;
        progress.mark := NULL;
    END IF;
    UPDATE audit_progress SET complete = progress.complete, mark = progress.mark, transaction = progress.transaction;
    FOR entry IN
        SELECT audit_entries.*, audit_seals.sequence, audit_seals.hash_v1
        FROM audit_entries LEFT JOIN audit_seals
            ON audit_seals.tenant_id = audit_entries.tenant_id AND audit_seals.entry_id = audit_entries.id
        -- What has no seal among those that have one was inserted later, or lost its seal: it shall show.
        WHERE id > sealed AND id <= progress.complete AND (sequence IS NOT NULL OR id > last)
        ORDER BY id LIMIT least(most, 1000)
    LOOP
        -- Entries that were written before entries had digests, or by hand.
        IF num_nonnulls(entry.old_values, entry.new_values) > 0
            AND num_nonnulls(entry.hash_v1, entry.salt, entry.old_digest, entry.new_digest, entry.erased_by) = 0
        THEN
            entry.salt := uuid_send(gen_random_uuid());
            entry.old_digest := crm_values_digest(entry.salt, entry.old_values);
            entry.new_digest := crm_values_digest(entry.salt, entry.new_values);
            UPDATE audit_entries
            SET salt = entry.salt, old_digest = entry.old_digest, new_digest = entry.new_digest
            WHERE tenant_id = entry.tenant_id AND id = entry.id;
        END IF;
        SELECT sequence, hash INTO previous FROM audit_seals
        WHERE tenant_id = entry.tenant_id AND sequence < coalesce(entry.sequence, 9223372036854775807)
        ORDER BY sequence DESC LIMIT 1;
        IF NOT FOUND THEN
            SELECT sequence, hash INTO previous FROM audit_cuts WHERE tenant_id = entry.tenant_id;
        END IF;
        place := coalesce(entry.sequence, previous.sequence + 1, 1);
        seal := sha256(
            coalesce(previous.hash, decode(repeat('00', 32), 'hex'))
            || convert_to(crm_canonical_json(jsonb_build_object(
                'tenant_id', entry.tenant_id, 'sequence', place, 'id', entry.id,
                'resource_type', entry.resource_type, 'resource_id', entry.resource_id, 'action', entry.action,
                'version', entry.version, 'operation_id', entry.operation_id, 'via', entry.via,
                'user_id', entry.user_id, 'user_name', entry.user_name, 'user_role', entry.user_role,
                'ip_address', entry.ip_address, 'user_agent', entry.user_agent, 'request_id', entry.request_id,
                'created_at', to_char(entry.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
                    || CASE WHEN to_char(entry.created_at, 'US') = '000000' THEN ''
                            ELSE to_char(entry.created_at, '.US') END || 'Z',
                'old_digest', encode(entry.old_digest, 'hex'), 'new_digest', encode(entry.new_digest, 'hex'),
                'seal_v1', encode(entry.hash_v1, 'hex')
            )), 'UTF8')
        );
        IF entry.sequence IS NULL THEN
            INSERT INTO audit_seals (tenant_id, sequence, entry_id, hash)
            VALUES (entry.tenant_id, place, entry.id, seal);
        ELSE
            UPDATE audit_seals SET hash = seal WHERE tenant_id = entry.tenant_id AND sequence = place;
        END IF;
        sealed := entry.id;
        count := count + 1;
    END LOOP;
    IF count = 0 AND most > 0 AND newest <= last THEN
        sealed := last;  -- only seals are left whose entries somebody deleted
    END IF;
END $$;
