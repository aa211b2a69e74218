CREATE OR REPLACE FUNCTION crm_list_stored_files()
RETURNS TABLE (kind text, tenant text, record_id bigint, key text, since timestamptz, live boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT 'attachment', tenant_id::text, id, object_key, created_at, deleted_at IS NULL FROM attachments
    UNION ALL
    SELECT 'upload', tenant_id::text, id, object_key, expires_at, false FROM attachment_uploads
    UNION ALL
    SELECT 'import', tenant_id::text, id, object_key, created_at, true FROM imports WHERE object_key IS NOT NULL;
END $$;
