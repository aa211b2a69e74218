-- Whoever sets other quiet hours means the mails too that wait already.
CREATE FUNCTION crm_hold_mails() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE mails SET due_at = crm_after_quiet(now(), NEW.quiet_from, NEW.quiet_to, coalesce(NEW.timezone, settings.timezone))
    FROM settings
    WHERE mails.tenant_id = NEW.tenant_id AND mails.user_id = NEW.user_id AND kind = 'notification'
        AND status = 'waiting' AND attempts = 0 AND settings.tenant_id = NEW.tenant_id;
    RETURN NULL;
END $$;
CREATE TRIGGER quiet AFTER UPDATE ON notification_settings FOR EACH ROW
    WHEN ((OLD.quiet_from, OLD.quiet_to, OLD.timezone) IS DISTINCT FROM (NEW.quiet_from, NEW.quiet_to, NEW.timezone))
    EXECUTE FUNCTION crm_hold_mails();
GRANT UPDATE (due_at) ON mails TO crm_maintenance;
CREATE INDEX refused_addresses_refused_at_idx ON refused_addresses (refused_at);
CREATE POLICY maintenance ON refused_addresses TO crm_maintenance USING (true);
GRANT SELECT, DELETE ON refused_addresses TO crm_maintenance;

-- What projects are due is told to their owners.
CREATE POLICY maintenance ON projects FOR SELECT TO crm_maintenance USING (true);
GRANT SELECT (tenant_id, id, owner_id, status, due_date, deleted_at) ON projects TO crm_maintenance;
