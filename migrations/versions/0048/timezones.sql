-- The same zone if this server knows it, else UTC. A server's zones are its own: an older one, or one that a backup
-- came to, may lack some.
CREATE FUNCTION crm_zone(zone text) RETURNS text LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    PERFORM timezone(zone, now());
    RETURN zone;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'UTC';
END $$;
GRANT EXECUTE ON FUNCTION crm_zone(text) TO crm_maintenance, crm_service;

CREATE FUNCTION crm_require_zone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF crm_zone(NEW.timezone) <> NEW.timezone THEN
        RAISE check_violation USING CONSTRAINT = 'known_timezone',
            MESSAGE = 'this server does not know the time zone';
    END IF;
    RETURN NULL;
END $$;
-- Triggers, and no CHECK: a backup is read in any case. What the first request makes has the operator's own zone.
CREATE CONSTRAINT TRIGGER known_timezone AFTER UPDATE ON settings FOR EACH ROW
    WHEN (NEW.timezone <> OLD.timezone) EXECUTE FUNCTION crm_require_zone();
CREATE CONSTRAINT TRIGGER known_timezone AFTER UPDATE ON notification_settings FOR EACH ROW
    WHEN (NEW.timezone IS DISTINCT FROM OLD.timezone) EXECUTE FUNCTION crm_require_zone();
