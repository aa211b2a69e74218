-- Deletes for good the attachments that have been in the trash since before this moment; answers how many. The store
-- then deletes the removed objects.
CREATE FUNCTION crm_purge_attachments(trashed_before timestamptz) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant text;
    gone bigint := 0;
BEGIN
    FOR tenant IN SELECT DISTINCT tenant_id FROM attachments WHERE deleted_at < trashed_before LOOP
        gone := gone + crm_purge_tenant(tenant, trashed_before, '{attachments}', 1000000);
    END LOOP;
    RETURN gone;
END $$;
