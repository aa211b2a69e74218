-- When a person's quiet hours are over, if this moment is in them; else the moment itself.
CREATE FUNCTION crm_after_quiet(moment timestamptz, quiet_from text, quiet_to text, zone text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN quiet_from IS NULL OR quiet_from = quiet_to THEN moment
        WHEN quiet_from < quiet_to AND time >= quiet_from::time AND time < quiet_to::time
            OR quiet_from > quiet_to AND (time >= quiet_from::time OR time < quiet_to::time)
            THEN crm_next_run('day', quiet_to, NULL, NULL, zone, moment)
        ELSE moment
    END FROM (SELECT (moment AT TIME ZONE zone)::time AS time) AS clock
$$;

-- No notification without its mail, where the person wants one; and no mail twice.
CREATE FUNCTION crm_mail_notifications() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO mails (tenant_id, kind, key, about, user_id, due_at)
    SELECT told.tenant_id, 'notification', told.id, jsonb_build_object('notification', told.id), told.user_id,
        coalesce(crm_after_quiet(now(), quiet_from, quiet_to, coalesce(person.timezone, settings.timezone)), now())
    FROM new_rows AS told
        LEFT JOIN notification_settings AS person ON person.tenant_id = told.tenant_id AND person.user_id = told.user_id
        LEFT JOIN settings ON settings.tenant_id = told.tenant_id
    WHERE told.by_email
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- Up to which moment digests are made.
ALTER TABLE reminder_progress ADD COLUMN digests_until timestamptz NOT NULL DEFAULT now();
CREATE INDEX notification_settings_digest_idx ON notification_settings (tenant_id, user_id) WHERE digest <> 'none';

-- Makes the digests that have become due since the last time, in all tenants; answers how many. Of several that were
-- missed, a person gets the last.
CREATE FUNCTION crm_make_digests(OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    since timestamptz;
BEGIN
    count := 0;
    -- Of several workers, one at a time; times of day have minutes.
    SELECT greatest(digests_until, now() - interval '8 days') INTO since FROM reminder_progress
    WHERE digests_until <= now() - interval '1 minute' FOR UPDATE SKIP LOCKED;
    IF since IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO mails (tenant_id, kind, key, about, user_id, due_at)
    SELECT tenant_id, 'digest', concat_ws(' ', digest, day, user_id), jsonb_build_object('digest', digest, 'day', day),
        user_id, now()
    FROM (
        SELECT person.tenant_id, user_id, digest, coalesce(person.timezone, settings.timezone) AS zone,
            CASE digest WHEN 'daily' THEN 'day' ELSE 'week' END AS every, digest_at
        FROM notification_settings AS person JOIN settings USING (tenant_id) WHERE digest <> 'none'
    ) AS wanted
        -- The day of the last one: weeks begin on Monday.
        CROSS JOIN LATERAL (SELECT date_trunc(every, now() AT TIME ZONE zone - digest_at::interval)::date AS day) AS last
    WHERE crm_next_run(every, digest_at, 1, NULL, zone, since) <= now()
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS count = ROW_COUNT;
    UPDATE reminder_progress SET digests_until = now();
END $$;
