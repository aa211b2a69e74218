-- What somebody asked for and takes longer than a request. A job's record is in `jobs`, its place in the queue in
-- procrastinate_jobs, which holds nothing but the organization and the id.
CREATE TABLE jobs (
    tenant_id varchar(64) NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    status text DEFAULT 'queued' NOT NULL,
    -- Who asked, as of then, and in which request. What the job changes is one operation.
    user_id text NOT NULL,
    user_name text,
    user_role text NOT NULL,
    request_id text,
    operation_id uuid NOT NULL,
    arguments jsonb NOT NULL,
    -- The records that it is about, in the order in which it takes them.
    targets bigint[],
    total bigint,
    done bigint DEFAULT 0 NOT NULL,
    -- What the next step needs to know of those before.
    state jsonb DEFAULT '{}' NOT NULL,
    -- Grows with each step and each start: a worker that was taken for dead can't commit any more.
    steps bigint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    -- One after the other, without a step that succeeded.
    failures integer DEFAULT 0 NOT NULL,
    result jsonb,
    error jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    queue_id bigint,
    CONSTRAINT jobs_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT jobs_status_check CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    CONSTRAINT jobs_finished_check CHECK ((finished_at IS NOT NULL) = (status IN ('done', 'failed', 'cancelled')))
);
CREATE INDEX jobs_created_at_idx ON jobs (tenant_id, created_at, id);
CREATE INDEX jobs_user_id_idx ON jobs (tenant_id, user_id, created_at, id);
CREATE INDEX jobs_unfinished_idx ON jobs (tenant_id, id) WHERE finished_at IS NULL;
CREATE INDEX jobs_finished_at_idx ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- What is finished stays as it is, and keeps nothing of what it was about.
CREATE FUNCTION crm_finish_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.finished_at IS NOT NULL THEN
        RAISE 'job % is finished', OLD.id USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NEW.finished_at IS NOT NULL THEN
        NEW.arguments := '{}';
        NEW.state := '{}';
        NEW.targets := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER finish BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION crm_finish_job();

GRANT SELECT ON jobs TO crm_service;
-- Never who asked for what: that is written once, by crm_enqueue_job.
GRANT UPDATE (status, done, state, steps, attempts, failures, result, error, started_at, finished_at) ON jobs
    TO crm_service;
CREATE POLICY maintenance ON jobs TO crm_maintenance USING (true);
GRANT SELECT (tenant_id, id, status, created_at, started_at, finished_at, queue_id),
    INSERT, UPDATE (queue_id), DELETE ON jobs TO crm_maintenance;

-- A job of the transaction's organization and person; answers its id. The more of the organization's jobs are not
-- finished, the later its turn comes, so that one organization's thousand do not keep another one's waiting.
CREATE FUNCTION crm_enqueue_job(kind text, arguments jsonb, targets bigint[], total bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant text := current_setting('crm.tenant');
    actor record;
    made bigint;
    unfinished bigint;
BEGIN
    SELECT * INTO actor FROM jsonb_to_record(current_setting('crm.actor')::jsonb)
        AS (user_name text, user_role text, request_id text, operation_id uuid);
    SELECT count(*) INTO unfinished FROM jobs WHERE tenant_id = tenant AND finished_at IS NULL;
    INSERT INTO jobs (tenant_id, kind, user_id, user_name, user_role, request_id, operation_id, arguments, targets, total)
    VALUES (tenant, kind, current_setting('crm.user'), actor.user_name, actor.user_role, actor.request_id,
            actor.operation_id, arguments, targets, total)
    RETURNING id INTO made;
    PERFORM crm_queue_job(tenant, made, -unfinished);
    RETURN made;
END $$;

CREATE FUNCTION crm_queue_job(tenant text, job bigint, place bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE jobs SET queue_id = (procrastinate_defer_jobs_v1(ARRAY[ROW(
        'jobs', 'run', greatest(place, -1000000)::integer, NULL, NULL,
        jsonb_build_object('tenant', tenant, 'job', job), NULL
    )::procrastinate_job_to_defer_v1]))[1]
    WHERE tenant_id = tenant AND id = job;
$$;

-- Lets jobs go on whose worker was not heard of for so many seconds, or which the queue has lost. Answers how many wait
-- for a worker, and for how long the first of those that have not begun.
CREATE FUNCTION crm_tend_jobs(silent double precision, OUT waiting bigint, OUT oldest double precision)
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
    SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE started_at IS NULL)), 0)
    INTO waiting, oldest FROM jobs WHERE finished_at IS NULL AND status = 'queued';
END $$;

-- Deletes jobs that were finished so many days ago; answers how many.
CREATE FUNCTION crm_prune_jobs(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM jobs WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM jobs
        WHERE finished_at < now() - make_interval(days => greatest(days, 1)::integer) ORDER BY finished_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;

-- Workers ask for the next job by and by: a NOTIFY would take a lock on the whole server at each commit.
DROP FUNCTION procrastinate_notify_queue_job_inserted_v1, procrastinate_notify_queue_abort_job_v1 CASCADE;
