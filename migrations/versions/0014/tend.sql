-- As in migration 0009, but `oldest` counts what is the service's own, too: how late its periodic work is, and the first
-- of the reports that are due.
CREATE OR REPLACE FUNCTION crm_tend_jobs(silent double precision, OUT waiting bigint, OUT oldest double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE procrastinate_jobs AS queued SET status = 'todo', scheduled_at = now(), abort_requested = false
    WHERE status = 'doing' AND NOT EXISTS (
        SELECT FROM procrastinate_workers AS worker
        WHERE worker.id = queued.worker_id AND last_heartbeat >= now() - make_interval(secs => greatest(silent, 10))
    );
    PERFORM crm_queue_job(lost.tenant_id, lost.id, 0) FROM (
        SELECT tenant_id, id FROM jobs
        WHERE finished_at IS NULL AND NOT EXISTS (SELECT FROM procrastinate_jobs WHERE procrastinate_jobs.id = queue_id)
        FOR UPDATE SKIP LOCKED
    ) AS lost;
    SELECT count(*), extract(epoch FROM now() - min(created_at) FILTER (WHERE started_at IS NULL))
    INTO waiting, oldest FROM jobs WHERE finished_at IS NULL AND status = 'queued';
    oldest := greatest(
        0, oldest,
        (SELECT extract(epoch FROM now() - min(due_at)) FROM report_schedules),
        (SELECT extract(epoch FROM now()) - 60 - max(defer_timestamp) FROM procrastinate_periodic_defers
         WHERE task_name = 'upkeep')
    );
END $$;
