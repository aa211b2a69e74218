ALTER TABLE access_tokens ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN version integer NOT NULL DEFAULT 1;
GRANT UPDATE (revoked_at) ON access_tokens TO crm_maintenance;

-- Whoever is shut out gets none of the tokens back by being let in again.
CREATE FUNCTION crm_revoke_access_tokens() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE access_tokens SET revoked_at = now()
    WHERE tenant_id = NEW.tenant_id AND user_id = NEW.user_id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER revoke AFTER UPDATE ON members FOR EACH ROW
    WHEN (OLD.is_active AND NOT NEW.is_active) EXECUTE FUNCTION crm_revoke_access_tokens();
