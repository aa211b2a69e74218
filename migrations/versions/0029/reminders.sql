-- Tells people of what has become due since the last time, in all tenants: at most so many at once; answers how many.
--
-- A transaction may commit what is due a moment after that moment was looked at. So the last minute is looked at again:
-- no transaction of the service is open for so long, and a key keeps everybody from being told twice.
CREATE FUNCTION crm_remind(most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    since timestamptz;
    reached timestamptz;
BEGIN
    count := 0;
    -- Of several workers, one at a time.
    SELECT until - interval '1 minute' INTO since FROM reminder_progress FOR UPDATE SKIP LOCKED;
    IF since IS NULL THEN
        RETURN;
    END IF;
    WITH leads AS MATERIALIZED (
        -- Who is reminded so long before.
        SELECT 'activity' AS resource_type, interval '0' AS lead
        UNION SELECT DISTINCT 'customer', make_interval(mins => follow_up_minutes) FROM notification_settings
            WHERE follow_up_minutes IS NOT NULL
        UNION SELECT DISTINCT 'deal', make_interval(mins => closing_minutes) FROM notification_settings
            WHERE closing_minutes IS NOT NULL
    ), days AS MATERIALIZED (
        -- The days that end in this time, or so long after it: from the first up to before the last.
        SELECT resource_type, lead, timezone, timezone('UTC', first::timestamp) AS first, timezone('UTC', last::timestamp) AS last
        FROM leads CROSS JOIN (SELECT DISTINCT timezone FROM settings) AS zones CROSS JOIN LATERAL (
            SELECT timezone(timezone, since + lead)::date AS first, timezone(timezone, now() + lead)::date AS last
        ) AS ends
        WHERE first < last
    ), due AS (
        SELECT tenant_id, assigned_to AS user_id, 'reminder' AS kind, 'activity' AS resource_type, id AS resource_id,
            remind_at AS moment, remind_at AS named, due_date AS due, all_day
        FROM activities
        WHERE deleted_at IS NULL AND status = 'scheduled' AND remind_at > since AND remind_at <= now()
        UNION ALL
        SELECT tenant_id, assigned_to, 'overdue', 'activity', id, due_date, due_date, due_date, false
        FROM activities
        WHERE deleted_at IS NULL AND status = 'scheduled' AND NOT all_day AND due_date > since AND due_date <= now()
        UNION ALL
        SELECT tenant_id, assigned_to, 'overdue', 'activity', activity.id,
            timezone(timezone, timezone('UTC', due_date)::date + interval '1 day'), due_date, due_date, true
        FROM days JOIN settings USING (timezone) CROSS JOIN LATERAL (
            SELECT assigned_to, id, due_date FROM activities
            WHERE activities.tenant_id = settings.tenant_id AND deleted_at IS NULL AND status = 'scheduled' AND all_day
                AND due_date >= days.first AND due_date < days.last
        ) AS activity
        WHERE resource_type = 'activity'
        UNION ALL
        SELECT customers.tenant_id, assigned_to, 'reminder', 'customer', id, next_follow_up_at - lead, next_follow_up_at,
            next_follow_up_at, false
        FROM leads JOIN customers ON next_follow_up_at > since + lead AND next_follow_up_at <= now() + lead
            JOIN notification_settings AS person ON person.tenant_id = customers.tenant_id AND user_id = assigned_to
        WHERE resource_type = 'customer' AND deleted_at IS NULL AND timezone('UTC', next_follow_up_at)::time <> '00:00'
            AND make_interval(mins => follow_up_minutes) = lead
        UNION ALL
        SELECT settings.tenant_id, assigned_to, 'reminder', 'customer', customer.id,
            timezone(settings.timezone, timezone('UTC', next_follow_up_at)::date + interval '1 day') - lead,
            next_follow_up_at, next_follow_up_at, true
        FROM days JOIN settings USING (timezone) CROSS JOIN LATERAL (
            SELECT assigned_to, id, next_follow_up_at FROM customers
            WHERE customers.tenant_id = settings.tenant_id AND deleted_at IS NULL
                AND next_follow_up_at >= days.first AND next_follow_up_at < days.last
                AND timezone('UTC', next_follow_up_at)::time = '00:00'
        ) AS customer
            JOIN notification_settings AS person ON person.tenant_id = settings.tenant_id AND user_id = assigned_to
        WHERE resource_type = 'customer' AND make_interval(mins => follow_up_minutes) = lead
        UNION ALL
        SELECT deals.tenant_id, owner_id, 'reminder', 'deal', deals.id, expected_close_date - lead, expected_close_date,
            expected_close_date, false
        FROM leads JOIN deals ON expected_close_date > since + lead AND expected_close_date <= now() + lead
            JOIN notification_settings AS person ON person.tenant_id = deals.tenant_id AND user_id = owner_id
            JOIN pipeline_stages AS stage ON stage.tenant_id = deals.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND deals.deleted_at IS NULL AND stage.kind = 'open'
            AND timezone('UTC', expected_close_date)::time <> '00:00' AND make_interval(mins => closing_minutes) = lead
        UNION ALL
        SELECT settings.tenant_id, owner_id, 'reminder', 'deal', deal.id,
            timezone(settings.timezone, timezone('UTC', expected_close_date)::date + interval '1 day') - lead,
            expected_close_date, expected_close_date, true
        FROM days JOIN settings USING (timezone) CROSS JOIN LATERAL (
            SELECT owner_id, id, stage_id, expected_close_date FROM deals
            WHERE deals.tenant_id = settings.tenant_id AND deleted_at IS NULL
                AND expected_close_date >= days.first AND expected_close_date < days.last
                AND timezone('UTC', expected_close_date)::time = '00:00'
        ) AS deal
            JOIN notification_settings AS person ON person.tenant_id = settings.tenant_id AND user_id = owner_id
            JOIN pipeline_stages AS stage ON stage.tenant_id = settings.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND stage.kind = 'open' AND make_interval(mins => closing_minutes) = lead
    ), told AS (
        SELECT tenant_id, user_id, kind, resource_type, resource_id, moment,
            concat_ws('/', kind, resource_type, resource_id, extract(epoch FROM named)) AS key,
            jsonb_build_object('due_at', due, 'all_day', all_day) AS data
        FROM due WHERE user_id IS NOT NULL
        UNION ALL
        SELECT jobs.tenant_id, jobs.user_id,
            CASE WHEN jobs.status = 'failed' THEN 'job_failed' WHEN jobs.kind = 'report' THEN 'report_ready'
                ELSE 'import_finished' END,
            CASE WHEN imports.id IS NULL THEN 'job' ELSE 'import' END, coalesce(imports.id, jobs.id), finished_at,
            concat_ws('/', 'job', jobs.id), jsonb_build_object('job_id', jobs.id, 'job', jobs.kind)
        FROM jobs LEFT JOIN imports ON imports.tenant_id = jobs.tenant_id AND job_id = jobs.id
        WHERE finished_at > since
            AND (jobs.status = 'failed' OR jobs.status = 'done' AND jobs.kind IN ('report', 'import_run'))
    ), made AS (
        SELECT told.*, coalesce(kind <> ALL (hidden), true) AS in_app, coalesce(kind = ANY (emailed), false) AS by_email
        FROM told LEFT JOIN notification_settings AS person USING (tenant_id, user_id)
        WHERE (kind <> ALL (hidden) OR kind = ANY (emailed)) IS NOT FALSE AND NOT EXISTS (
            SELECT FROM notifications AS before
            WHERE before.tenant_id = told.tenant_id AND before.user_id = told.user_id AND before.key = told.key
        )
        ORDER BY moment LIMIT greatest(most, 1)
    ), inserted AS (
        INSERT INTO notifications (tenant_id, user_id, kind, key, resource_type, resource_id, data, in_app, by_email)
        SELECT tenant_id, user_id, kind, key, resource_type, resource_id, data, in_app, by_email FROM made
        ON CONFLICT DO NOTHING
    )
    SELECT count(*), max(moment) INTO count, reached FROM made;
    -- Where there may be more, it goes on from the last one.
    UPDATE reminder_progress SET until = CASE WHEN count < greatest(most, 1) THEN now() ELSE reached END;
END $$;
