"""Jobs: what takes longer than a request, and the queue that workers take it from."""

from pathlib import Path

from migrations.rules import isolate, own_only, owned_by, run, within_years

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0009")
OURS = (
    "crm_enqueue_job(text, jsonb, bigint[], bigint)",
    "crm_queue_job(text, bigint, bigint)",
    "crm_tend_jobs(double precision)",
    "crm_prune_jobs(bigint, bigint)",
)
# What a worker calls. The service has no rights on the queue's tables, so it can't make up a job: none of these adds
# one, or changes whose it is.
WORKERS = (
    "procrastinate_fetch_job_v2(varchar[], bigint)",
    "procrastinate_finish_job_v1(bigint, procrastinate_job_status, boolean)",
    "procrastinate_retry_job_v2(bigint, timestamptz, integer, varchar, varchar)",
    "procrastinate_register_worker_v1()",
    "procrastinate_unregister_worker_v1(bigint)",
    "procrastinate_update_heartbeat_v1(bigint)",
    "procrastinate_prune_stalled_workers_v1(double precision)",
)
DEFER = "procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])"
TABLES = "procrastinate_jobs, procrastinate_workers, procrastinate_events, procrastinate_periodic_defers"


def upgrade() -> None:
    # As the library brings it along: a test compares the two.
    run((SQL / "procrastinate.sql").read_text())
    run((SQL / "jobs.sql").read_text())
    run(isolate("jobs") + own_only("jobs", "user_id = current_setting('crm.user', true)") + within_years("jobs"))
    for function in WORKERS:
        run(f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp")
    run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO crm_maintenance")
    run("GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq TO crm_maintenance")
    called = ", ".join((OURS[0], *OURS[2:], *WORKERS))
    run(f"GRANT EXECUTE ON FUNCTION {called} TO crm_service; GRANT EXECUTE ON FUNCTION {DEFER} TO crm_maintenance")
    run(owned_by("crm_maintenance", *OURS, *WORKERS))


def downgrade() -> None:
    """Jobs that are not finished are lost, and what is kept of the others."""
    run("DROP TABLE jobs")
    for function in OURS:
        run(f"DROP FUNCTION {function}")
    run("""
        DROP FUNCTION crm_finish_job;
        DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs,
            procrastinate_workers CASCADE;
        DO $$
        DECLARE
            each regprocedure;
        BEGIN
            FOR each IN
                SELECT oid::regprocedure FROM pg_proc
                WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\\_%'
            LOOP
                EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', each);
            END LOOP;
        END $$;
        DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_status, procrastinate_job_event_type;
    """)
