-- Deletes the next audit entries that are older than their tenant keeps them, with their seals; answers how many. Days
-- end at midnight, so that there is at most one cut of a tenant a day, unless there is very much to cut. First the cut
-- and an entry that names it are written; then the entries before it are deleted, over as many calls as it takes.
-- Nothing is cut that is not sealed, nor where it would only be what earlier cuts left. Others may seal meanwhile: what
-- is not sealed, and the last of what is, are found whether this has deleted yet or not.
CREATE OR REPLACE FUNCTION crm_cut_audit(most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC'
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    log record;
    oldest record;
    kept bigint;
    cut record;
    note jsonb;
    salt bytea;
    last bigint;
    gone bigint;
    deleted bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('crm_cut_audit', 0)) THEN
        RETURN 0;
    END IF;
    most := least(most, 10000);
    -- In any order, so that no tenant keeps the others waiting.
    FOR log IN
        SELECT tenant_id, date_trunc('day', now()) - make_interval(days => audit_days) AS before, entry_id,
               coalesce(deleted_to, -9223372036854775808) AS deleted_to
        FROM (SELECT tenant_id, audit_days FROM settings WHERE audit_days IS NOT NULL) AS settings
        FULL JOIN audit_cuts USING (tenant_id) ORDER BY random()
    LOOP
        -- Not from the start of the log: what was deleted stays in the index while anybody may still see it.
        SELECT id, created_at INTO oldest FROM audit_entries
        WHERE tenant_id = log.tenant_id AND id > log.deleted_to ORDER BY id LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        IF log.entry_id IS NULL OR oldest.id > log.entry_id THEN
            CONTINUE WHEN (oldest.created_at < log.before) IS NOT TRUE;
            -- No cut reaches the first that is young enough: without this, the whole log would be looked through.
            SELECT id INTO kept FROM audit_entries WHERE tenant_id = log.tenant_id AND created_at >= log.before
            ORDER BY created_at, id LIMIT 1;
            SELECT * INTO cut FROM (
                SELECT id, sequence, hash, hash_v1, max(created_at) OVER so_far AS until,
                       bool_and(created_at < log.before AND hash IS NOT NULL) OVER so_far AS old,
                       bool_or(resource_type <> 'audit_log') OVER so_far AS worth_it
                FROM (
                    SELECT entry.id, entry.created_at, entry.resource_type, seal.sequence, seal.hash, seal.hash_v1
                    FROM audit_entries AS entry LEFT JOIN audit_seals AS seal
                        ON seal.tenant_id = entry.tenant_id AND seal.entry_id = entry.id
                    WHERE entry.tenant_id = log.tenant_id AND entry.id >= oldest.id
                        AND entry.id < coalesce(kept, 9223372036854775807)
                    ORDER BY entry.id LIMIT 100000
                ) AS entries
                WINDOW so_far AS (ORDER BY id)
            ) AS entries WHERE old AND worth_it ORDER BY id DESC LIMIT 1;
            CONTINUE WHEN NOT FOUND;
            log.entry_id := cut.id;
            note := jsonb_build_object(
                'sequence', cut.sequence, 'entry_id', cut.id, 'until', cut.until,
                'hash', encode(cut.hash, 'hex'), 'hash_v1', encode(cut.hash_v1, 'hex')
            );
            salt := uuid_send(gen_random_uuid());
            INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values, salt, new_digest, via)
            VALUES (log.tenant_id, 'audit_log', cut.id, 'purge', note, salt, crm_values_digest(salt, note), 'job');
            INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, hash_v1, until)
            VALUES (log.tenant_id, cut.sequence, cut.id, cut.hash, cut.hash_v1, cut.until)
            ON CONFLICT (tenant_id) DO UPDATE SET sequence = EXCLUDED.sequence, entry_id = EXCLUDED.entry_id,
                hash = EXCLUDED.hash, hash_v1 = EXCLUDED.hash_v1,
                until = greatest(audit_cuts.until, EXCLUDED.until);
        END IF;
        SELECT max(id) INTO last FROM (
            SELECT id FROM audit_entries
            WHERE tenant_id = log.tenant_id AND id >= oldest.id AND id <= log.entry_id
            ORDER BY id LIMIT most - deleted
        ) AS entries;
        DELETE FROM audit_entries WHERE tenant_id = log.tenant_id AND id >= oldest.id AND id <= last;
        GET DIAGNOSTICS gone = ROW_COUNT;
        DELETE FROM audit_seals
        WHERE tenant_id = log.tenant_id AND entry_id > log.deleted_to AND entry_id <= last;
        UPDATE audit_cuts SET deleted_to = last WHERE tenant_id = log.tenant_id;
        deleted := deleted + gone;
        EXIT WHEN deleted >= most;
    END LOOP;
    RETURN deleted;
END $$
