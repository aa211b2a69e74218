-- What a person is told. Nobody is told of the same `key` twice. What clients read, the title of the record and a
-- sentence, is made when it is read, so that it is in the reader's language and shows nothing the reader may not see.
CREATE TABLE notifications (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    read_at timestamptz,
    -- Who did it; null is the service itself.
    actor_id text,
    actor_name text,
    resource_type text NOT NULL,
    resource_id bigint NOT NULL,
    -- When something is due, how many records it is about: nothing that somebody typed.
    data jsonb NOT NULL DEFAULT '{}',
    -- What the person's settings were: whether it is shown, and whether it is mailed.
    in_app boolean NOT NULL,
    by_email boolean NOT NULL,
    CONSTRAINT notifications_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT notifications_key_key UNIQUE (tenant_id, user_id, key)
);
CREATE INDEX notifications_shown_idx ON notifications (tenant_id, user_id, at, id) WHERE in_app;
CREATE INDEX notifications_unread_idx ON notifications (tenant_id, user_id, at, id) WHERE in_app AND read_at IS NULL;
CREATE INDEX notifications_record_idx ON notifications (tenant_id, resource_id, resource_type);
-- For the newest ones, and for those that are old enough to go.
CREATE INDEX notifications_at_idx ON notifications (at);

-- One row for each person that was seen.
CREATE TABLE notification_settings (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL,
    -- The kinds of notifications that are not shown, and those that are mailed.
    hidden text[] NOT NULL DEFAULT '{}',
    emailed text[] NOT NULL
        DEFAULT '{assigned,reminder,mentioned,job_failed,webhook_disabled,connection}',
    digest text NOT NULL DEFAULT 'none' CHECK (digest IN ('none', 'daily', 'weekly')),
    digest_at text NOT NULL DEFAULT '08:00' CHECK (digest_at ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    quiet_from text CHECK (quiet_from ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    quiet_to text CHECK (quiet_to ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$'),
    -- Null is the organization's.
    timezone varchar(64),
    locale text NOT NULL DEFAULT 'en' CHECK (locale IN ('en', 'de', 'ar')),
    -- So many minutes before a follow-up and before the closing of a deal there is a reminder; null is never. Whole days
    -- end at midnight: 900 minutes before is at nine in the morning, 2340 on the day before.
    follow_up_minutes integer DEFAULT 900 CHECK (follow_up_minutes BETWEEN 0 AND 43200),
    closing_minutes integer DEFAULT 2340 CHECK (closing_minutes BETWEEN 0 AND 43200),
    CONSTRAINT notification_settings_pkey PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT notification_settings_quiet_check CHECK ((quiet_from IS NULL) = (quiet_to IS NULL))
);

-- Up to which moment reminders are made: one row, without a tenant, which only `crm_remind` reads and changes.
CREATE TABLE reminder_progress (
    tenant_id varchar(64) NOT NULL DEFAULT '',
    until timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT reminder_progress_pkey PRIMARY KEY (tenant_id)
);
INSERT INTO reminder_progress DEFAULT VALUES;

ALTER TABLE activities ADD COLUMN remind_at timestamptz;
ALTER TABLE activities DROP CONSTRAINT activities_years_check;
-- What becomes due at a moment is found for all tenants at once; what is due by the end of a day, for each tenant by its
-- own indexes when its day ends.
CREATE INDEX activities_remind_at_idx ON activities (remind_at) WHERE deleted_at IS NULL AND status = 'scheduled';
CREATE INDEX activities_due_idx ON activities (due_date)
    WHERE deleted_at IS NULL AND status = 'scheduled' AND NOT all_day;
CREATE INDEX customers_follow_up_idx ON customers (next_follow_up_at)
    WHERE deleted_at IS NULL AND timezone('UTC', next_follow_up_at)::time <> '00:00';
CREATE INDEX deals_closing_idx ON deals (expected_close_date)
    WHERE deleted_at IS NULL AND timezone('UTC', expected_close_date)::time <> '00:00';
CREATE INDEX imports_job_idx ON imports (tenant_id, job_id) WHERE job_id IS NOT NULL;

-- Whoever is seen for the first time has settings from then on.
CREATE FUNCTION crm_begin_notifications() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO notification_settings (tenant_id, user_id) VALUES (NEW.tenant_id, NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER notifications AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION crm_begin_notifications();

-- Nothing is left of a record that is deleted for good.
CREATE FUNCTION crm_forget_notifications() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM notifications USING old_rows AS gone
    WHERE notifications.tenant_id = gone.tenant_id AND resource_id = gone.id AND resource_type = TG_ARGV[0];
    RETURN NULL;
END $$;

-- Deletes notifications of so many days ago; answers how many.
CREATE FUNCTION crm_prune_notifications(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    DELETE FROM notifications WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM notifications
        WHERE at < now() - make_interval(days => greatest(days, 1)::integer) ORDER BY at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
