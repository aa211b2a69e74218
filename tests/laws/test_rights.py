"""The login of the service can't forge anything or leave its tenant, whatever SQL it sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg
import pytest
from psycopg import errors, sql

from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import breaks, seal

# Functions that only compute are used by indexes and derived columns: roles that read and write those may call them.
COMPUTERS = {"crm_service", "crm_search", "crm_maintenance"}
QUEUE = {
    "procrastinate_fetch_job_v2(character varying[],bigint)": "across tenants: takes the next job from the queue",
    "procrastinate_finish_job_v1(bigint,procrastinate_job_status,boolean)": "across tenants: takes a job off the queue",
    "procrastinate_prune_stalled_workers_v1(double precision)": "forgets workers that are dead",
    "procrastinate_register_worker_v1()": "notes a worker",
    "procrastinate_retry_job_v2(bigint,timestamp with time zone,integer,character varying,character varying)": (
        "across tenants: puts a job back into the queue"
    ),
    "procrastinate_unregister_worker_v1(bigint)": "forgets a worker",
    "procrastinate_update_heartbeat_v1(bigint)": "notes that a worker is alive",
}
# All other functions that somebody besides their owner may call, and who.
CALLABLE = {
    "crm_count_found(text,text[],boolean,bigint,double precision)": {"crm_service"},
    "crm_count_tagged(bigint)": {"crm_service"},
    "crm_create_default_stages()": {"crm_service"},
    "crm_cut_audit(bigint)": {"crm_service"},
    "crm_duplicates_behind(bigint)": {"crm_service"},
    "crm_feed_news(text,bigint)": {"crm_service"},
    "crm_lead_feed(text,uuid,double precision)": {"crm_service"},
    "crm_find_access_token(bytea)": {"crm_service"},
    "crm_fold_report_changes(bigint)": {"crm_service"},
    "crm_prune_report_sums(bigint)": {"crm_service"},
    "crm_shared_deals(text,timestamp with time zone,timestamp with time zone)": {"crm_service"},
    "crm_find_calendar_feed(bytea)": {"crm_service"},
    "crm_claim_calendars(bigint,double precision)": {"crm_service"},
    "crm_wake_calendars(bigint)": {"crm_service"},
    "crm_user_json(text)": COMPUTERS,
    "crm_find_contacts(text[])": {"crm_service"},
    "crm_drop_old_archives(bigint)": {"crm_service"},
    "crm_log_export(text,jsonb)": {"crm_service"},
    "crm_import_clashes(bigint)": {"crm_service"},
    "crm_log_import(bigint,jsonb)": {"crm_service"},
    "crm_log_call(bigint,text)": {"crm_service"},
    "crm_zone(text)": {"crm_maintenance", "crm_service"},
    "crm_owns(text,bigint)": {"crm_service"},
    "crm_after_quiet(timestamp with time zone,text,text,text)": {"crm_maintenance"},
    "crm_due_mails(bigint)": {"crm_service"},
    "crm_make_digests()": {"crm_service"},
    "crm_prune_mails(bigint,bigint)": {"crm_service"},
    "crm_tend_mails(bigint,bigint)": {"crm_service"},
    "crm_prune_idempotency_keys(bigint)": {"crm_service"},
    "crm_purge_trash(text[],bigint)": {"crm_service"},
    "crm_enqueue_job(text,jsonb,bigint[],bigint)": {"crm_service"},
    "crm_erase_record(text,bigint,timestamp with time zone,text,bigint,bigint)": {"crm_service"},
    "crm_measure_erasure(text,bigint,bigint,bigint)": {"crm_service"},
    "crm_prune_conversations(bigint,bigint)": {"crm_service"},
    "crm_prune_imports(bigint,bigint)": {"crm_service"},
    "crm_prune_jobs(bigint,bigint)": {"crm_service"},
    "crm_prune_notifications(bigint,bigint)": {"crm_service"},
    "crm_prune_proposals(bigint)": {"crm_service"},
    "crm_remind(bigint)": {"crm_service"},
    "crm_prune_webhooks(bigint,bigint)": {"crm_service"},
    "crm_tenants_with_secrets()": {"crm_service"},
    "crm_tend_webhooks()": {"crm_service"},
    "crm_webhooks_behind()": {"crm_service"},
    "crm_webhooks_due()": {"crm_service"},
    "crm_lock_members(text)": {"crm_maintenance", "crm_service"},
    "crm_let_in(text,text,jsonb)": {"crm_identity"},
    "crm_shut_out(text,text,text,text,jsonb,boolean)": {"crm_identity"},
    "crm_member_changes(bigint)": {"crm_service"},
    "crm_next_run(text,text,integer,integer,text,timestamp with time zone)": {"crm_maintenance", "crm_service"},
    "crm_run_report_schedules(bigint)": {"crm_service"},
    "crm_take_turn(text,bigint)": {"crm_service"},
    "crm_tend_jobs(double precision)": {"crm_service"},
    "crm_seal_audit(bigint)": {"crm_service"},
    "crm_projects_of(text[])": {"crm_service"},
    "crm_search(text,text[],boolean,boolean,bigint)": {"crm_service"},
    "crm_snippet(text,text,text[])": {"crm_service"},
    # Their owner is another role; the owner of the tables may call them, for `crm attachments`.
    "crm_delete_upload(text,bigint)": {"the owner"},
    "crm_deleted_under(text,text,text,text[])": {"the owner"},
    "crm_erase_entries(text,bigint,jsonb,bigint[])": {"the owner"},
    "crm_forget_removed_objects(text[])": {"the owner", "crm_service"},
    "crm_list_removed_objects(bigint)": {"the owner", "crm_service"},
    "crm_purge_tenant(text,timestamp with time zone,text[],bigint)": {"crm_maintenance"},
    "crm_list_stored_files()": {"the owner"},
    "crm_note_routine(text)": {"the owner", "pg_read_all_data"},
    "crm_measure_sealing(bigint)": {"crm_service"},
    "crm_measure_tenants(bigint)": {"crm_service"},
    "crm_routines()": {"the owner", "crm_service"},
    "crm_purge_attachments(timestamp with time zone)": {"the owner"},
    "crm_trash_attachment(text,bigint)": {"the owner"},
    # Of the queue's library, what a worker calls; never what adds a job.
    "procrastinate_defer_jobs_v1(procrastinate_job_to_defer_v1[])": {"crm_maintenance"},
    **{name: {"crm_service"} for name in QUEUE},
}
# All functions that run as their owner, and what they do beyond the caller's rights.
DEFINERS = {
    "crm_audit()": "a trigger: writes audit entries of the rows that a statement changed",
    "crm_contact_name(bigint)": "reads one name of the tenant, also of what is another agent's",
    "crm_customer_name(bigint)": "reads one name of the tenant, also of what is another agent's",
    "crm_deal_title(bigint)": "reads one name of the tenant, also of what is another agent's",
    "crm_project_name(bigint)": "reads one name of the tenant, also of what is another agent's",
    "crm_projects_of(text[])": "reads the ids of the tenant's projects with these assignees",
    "crm_create_default_stages()": "makes the stages of a tenant that has none",
    "crm_keep_held()": "a trigger: refuses the deletion of what belongs to a customer on hold",
    "crm_merge_counts(text)": "adds up counts of the tenant; called by triggers",
    "crm_delete_upload(text,bigint)": "across tenants, for the owner",
    "crm_note_routine(text)": "notes when operators' regular work was done, for the owner",
    "crm_routines()": "tells when operators' regular work was done",
    "crm_measure_sealing(bigint)": "across tenants: counts audit entries that are not sealed",
    "crm_measure_tenants(bigint)": "across tenants: how many records, and bytes of files, the largest have",
    "crm_limit_bytes()": "a trigger: refuses files beyond the tenant's limit",
    "crm_limit_members()": "a trigger: refuses members beyond the tenant's limit",
    "crm_limit_records()": "a trigger: refuses records beyond the tenant's limit",
    "crm_cut_audit(bigint)": "across tenants: deletes audit entries that are older than their tenant keeps them",
    "crm_enqueue_job(text,jsonb,bigint[],bigint)": "makes a job of the tenant and the person",
    "crm_prune_conversations(bigint,bigint)": "across tenants: drops what was said to the assistant long ago",
    "crm_prune_imports(bigint,bigint)": "across tenants: drops files to import that nobody did anything with",
    "crm_prune_jobs(bigint,bigint)": "across tenants: drops jobs that were finished long ago",
    "crm_prune_notifications(bigint,bigint)": "across tenants: drops notifications of long ago",
    "crm_prune_proposals(bigint)": "across tenants: drops proposals that nobody can approve any more",
    "crm_remind(bigint)": "across tenants: tells people of what has become due",
    "crm_due_mails(bigint)": "across tenants: ids of mails that are due",
    "crm_mail_notifications()": "a trigger: makes the mails of notifications, for whoever wants one",
    "crm_make_digests()": "across tenants: makes the digests that are due",
    "crm_prune_mails(bigint,bigint)": "across tenants: drops mails that were made long ago",
    "crm_tend_mails(bigint,bigint)": "across tenants: ends mails that wait too long, and counts those that wait",
    "crm_begin_notifications()": "a trigger: makes the settings of a person who is new",
    "crm_forget_notifications()": "a trigger: drops notifications of what is deleted for good",
    "crm_fold_report_changes(bigint)": "across tenants: adds what changed to the sums of the reports",
    "crm_prune_report_sums(bigint)": "across tenants: drops sums by the hour of long ago",
    "crm_shared_deals(text,timestamp with time zone,timestamp with time zone)": (
        "deals at the person's own customers, looked for by time"
    ),
    "crm_prune_webhooks(bigint,bigint)": "across tenants: drops deliveries that were made long ago",
    "crm_tenants_with_secrets()": "across tenants: names those that have webhooks",
    "crm_tend_webhooks()": "across tenants: counts deliveries that wait",
    "crm_webhooks_behind()": "across tenants: names those with events that are to be sent",
    "crm_webhooks_due()": "across tenants: ids of webhooks that something is to be sent to",
    "crm_log_call(bigint,text)": "notes a call of another service in the tenant's audit log",
    "crm_revoke_access_tokens()": "a trigger: ends the access tokens of a member who is shut out",
    "crm_find_access_token(bytea)": "across tenants: whose the access token with a hash is; notes that it was used",
    "crm_hold_mails()": "a trigger: lets mails that wait keep a person's new quiet hours",
    "crm_find_calendar_feed(bytea)": "across tenants: whose the feed with a secret is",
    "crm_claim_calendars(bigint,double precision)": "across tenants: takes connected calendars that are due",
    "crm_wake_calendars(bigint)": "across tenants: makes calendars due whose person's activities were changed",
    "crm_sign_out_calendars()": "a trigger: stops the connected calendars of a person who is signed out",
    "crm_find_contacts(text[])": "ids of the organization's contacts with these emails",
    "crm_remove_import_object()": "a trigger: notes that the store is to delete the rows of an import",
    "crm_let_in(text,text,jsonb)": "for crm identity: makes a member of any tenant active again",
    "crm_shut_out(text,text,text,text,jsonb,boolean)": "for crm identity: shuts a member of any tenant out",
    "crm_member_changes(bigint)": "across tenants: names people whose rights are less than their token says",
    "crm_run_report_schedules(bigint)": "across tenants: makes the jobs of schedules that are due, each as its maker's",
    "crm_take_turn(text,bigint)": "says which worker does the service's own work of this minute",
    "crm_tend_jobs(double precision)": "across tenants: puts jobs of dead workers back into the queue",
    **QUEUE,
    "crm_erase_entries(text,bigint,jsonb,bigint[])": "empties values in the tenant's log and says so, for the owner",
    "crm_deleted_under(text,text,text,text[])": "across tenants, for the owner: reads ids in the log",
    "crm_erase_record(text,bigint,timestamp with time zone,text,bigint,bigint)": "erases a record of the tenant",
    "crm_measure_erasure(text,bigint,bigint,bigint)": "counts what an erasure in the tenant would reach",
    "crm_duplicates_behind(bigint)": "across tenants: names those whose records are to be compared",
    "crm_feed_news(text,bigint)": "across tenants: names those with events that a reader has not yet, and how many",
    "crm_lead_feed(text,uuid,double precision)": "notes which process is a reader of the feed",
    "crm_drop_old_archives(bigint)": "across tenants: gives up archives that were kept long enough",
    "crm_empty_archives()": "a trigger: gives up the tenant's archives when something is erased",
    "crm_log_export(text,jsonb)": "notes an export of the tenant in the audit log",
    "crm_log_import(bigint,jsonb)": "notes that an import of the tenant is done in the audit log",
    "crm_remove_archive()": "a trigger: has the object of an archive deleted",
    "crm_forget_removed_objects(text[])": "across tenants: drops keys of objects that the store has deleted",
    "crm_list_removed_objects(bigint)": "across tenants: names objects that the store is to delete",
    "crm_list_stored_files()": "across tenants, for the owner",
    "crm_owns(text,bigint)": "asks whether a record of the tenant is the caller's own",
    "crm_prune_idempotency_keys(bigint)": "across tenants: drops keys that are older than a day",
    "crm_purge_attachments(timestamp with time zone)": "across tenants, for the owner",
    "crm_purge_tenant(text,timestamp with time zone,text[],bigint)": "across tenants, for crm_maintenance",
    "crm_purge_trash(text[],bigint)": "across tenants: deletes for good what each has kept in the trash long enough",
    "crm_seal_audit(bigint)": "across tenants: seals the next audit entries",
    "crm_search(text,text[],boolean,boolean,bigint)": "reads the ids of the tenant's records with a text",
    "crm_sync_customer_tags()": "a trigger: writes customer_tags from customers.tags",
    "crm_stage_history()": "a trigger: writes the history of deals that a statement moved",
    "crm_trash_attachment(text,bigint)": "across tenants, for the owner",
}
FUNCTIONS = """
    SELECT oid::regprocedure::text, prosecdef, coalesce(proconfig, '{}'),
           provolatile = 'i' AND NOT prosecdef,
           ARRAY(SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END
                 FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee <> proowner)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(crm|procrastinate)_'
"""


@pytest.fixture
def login(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session as the service's login, which may act as the roles that it is a member of."""
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        yield connection


class Function(NamedTuple):
    name: str
    definer: bool
    config: list[str]
    computes: bool
    grantees: list[str]


def functions(settings: Settings) -> list[Function]:
    with psycopg.connect(settings.migration_dsn) as owner:
        return [Function(*row) for row in owner.execute(FUNCTIONS)]


def test_every_function_is_callable_by_whom_it_is_declared_for(settings: Settings) -> None:
    with psycopg.connect(settings.migration_dsn) as connection:
        owner = connection.info.user
    callable_by = {each.name: set(each.grantees) for each in functions(settings) if each.grantees}
    computing = {each.name: COMPUTERS for each in functions(settings) if each.computes}
    declared = {name: {owner if role == "the owner" else role for role in roles} for name, roles in CALLABLE.items()}
    assert callable_by == declared | computing


def test_every_function_that_runs_as_its_owner_is_declared_and_finds_only_our_names(settings: Settings) -> None:
    definers = {each.name: each.config for each in functions(settings) if each.definer}
    # Triggers, one for each table and event.
    counting = {name for name in definers if name.startswith(("crm_count_", "crm_sum_"))}
    assert definers.keys() - counting == DEFINERS.keys()
    pinned = "search_path=pg_catalog, public, pg_temp"
    assert [name for name, config in definers.items() if pinned not in config] == []


@pytest.mark.parametrize("role", ["crm_service", "crm_service_own", None])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE forged (id bigint)",
        "CREATE TABLE forged (id bigint)",
        "CREATE VIEW forged AS SELECT 1",
        "CREATE FUNCTION forged() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE SCHEMA forged",
        "CREATE SEQUENCE forged",
        "CREATE TRIGGER forged AFTER INSERT ON customers FOR EACH ROW EXECUTE FUNCTION crm_audit('customer', '{}')",
        "CREATE POLICY forged ON customers USING (true)",
    ],
)
def test_the_login_can_make_nothing(role: str | None, statement: str, login: psycopg.Connection) -> None:
    if role:
        login.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    with pytest.raises(errors.InsufficientPrivilege):
        login.execute(statement)


@pytest.mark.parametrize(
    "role",
    ["crm_auditor", "crm_maintenance", "crm_search", "pg_read_all_data", "pg_write_all_data", "pg_signal_backend"],
)
def test_the_login_can_act_as_nobody_who_sees_all_tenants(role: str, login: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        login.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT crm_add_count({stranger}, 'customers', 'lead', 1)",
        "SELECT crm_merge_counts('customers')",
        "SELECT crm_audit()",
        "SELECT crm_stage_history()",
        "INSERT INTO record_counts (tenant_id, counted, facet, rows) VALUES ({stranger}, 'customers', 'lead', 1)",
        "INSERT INTO report_changes (tenant_id, series) VALUES ({stranger}, 'customers')",
        "UPDATE report_sums SET rows = 1",
        "DELETE FROM customer_values",
        "SELECT crm_add_up_reports({stranger})",
        "INSERT INTO stage_history (tenant_id, deal_id, to_stage_id, entered_at) VALUES ({stranger}, 1, 1, now())",
        "INSERT INTO audit_seals (tenant_id, sequence, entry_id, hash) VALUES ({stranger}, 1, 1, sha256('x'))",
        "UPDATE audit_entries SET new_values = NULL",
        "UPDATE audit_cuts SET until = now()",
        "UPDATE audit_progress SET complete = 9223372036854775807",
        "SELECT crm_list_stored_files()",
        "SELECT crm_erase_entries('customer', 1, '{{}}', ARRAY(SELECT id FROM audit_entries))",
        "SELECT setval('audit_entries_id_seq', 1)",
        "UPDATE customers SET id = id + 1000000",
        "UPDATE customers SET tenant_id = {stranger}",
        "INSERT INTO jobs (kind) VALUES ('bulk')",
        "UPDATE jobs SET user_id = 'somebody else'",
        "UPDATE jobs SET arguments = '{{}}'",
        "DELETE FROM jobs",
        "SELECT crm_queue_job({stranger}, 1, 0)",
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('jobs', 'run')",
        "SELECT procrastinate_defer_jobs_v1('{{}}')",
        "SELECT FROM procrastinate_jobs",
    ],
)
def test_what_the_database_keeps_is_not_forged(
    statement: str, service_connection: psycopg.Connection, admin: Caller, stranger: Caller
) -> None:
    stranger.customer()
    admin.customer()
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    with pytest.raises((errors.InsufficientPrivilege, errors.FeatureNotSupported)):
        service_connection.execute(sql.SQL(statement).format(stranger=sql.Literal(stranger.tenant)))


@pytest.mark.parametrize(
    "resource",
    [
        "users",
        "audit_entries",
        "customers WHERE true --",
        "pg_authid",
        "(SELECT id FROM customers) AS x",
        None,
    ],
)
def test_a_search_or_a_question_of_ownership_names_a_resource_of_ours(
    resource: str | None, service_connection: psycopg.Connection
) -> None:
    with pytest.raises(errors.InvalidParameterValue):
        service_connection.execute("SELECT crm_owns(%s, 1)", [resource])
    found = service_connection.execute("SELECT crm_search(%s, ARRAY['a'], true, false, NULL)", [resource])
    assert found.fetchall() == []


def test_a_search_term_is_only_ever_text(
    service_connection: psycopg.Connection, admin: Caller, stranger: Caller
) -> None:
    stranger.customer("Unmistakable")
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    for term in ("' OR true --", "%", "\\", "_", "') OR ('a' = 'a", "$q$"):
        search = "SELECT crm_search('customers', ARRAY[%s], true, false, NULL)"
        assert service_connection.execute(search, [term]).fetchall() == []


def test_who_seals_by_hand_makes_right_seals(
    service_connection: psycopg.Connection, settings: Settings, admin: Caller, stranger: Caller
) -> None:
    for caller in (admin, stranger):
        caller.customer()
    for most in (0, 1, 1, 10_000_000):
        service_connection.execute("SELECT crm_seal_audit(%s)", [most])
    seal(settings)
    assert breaks(settings, admin.tenant) == breaks(settings, stranger.tenant) == []


def test_no_role_of_the_login_sees_another_tenant(login: psycopg.Connection, admin: Caller, stranger: Caller) -> None:
    stranger.customer()
    for role in ("crm_service", "crm_service_own"):
        login.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        login.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        for table in (
            "audit_entries",
            "audit_seals",
            "audit_cuts",
            "record_counts",
            "report_changes",
            "report_sums",
            "customer_values",
            "customers",
            "idempotency_keys",
            "jobs",
        ):
            seen = login.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [stranger.tenant]).fetchone()
            assert seen == (0,), table
