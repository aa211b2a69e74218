"""What operators watch and limit: regular work, sealing, the largest organizations, and what each may have at most."""

from pathlib import Path

from migrations.rules import as_role, isolate, limited, on_each_statement, owned_by, rows, run, within_years

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0054")
LIMITED = ("activities", "contacts", "customers", "deals", "notes", "projects")
MEASURES = ("crm_routines()", "crm_measure_sealing(bigint)", "crm_measure_tenants(bigint)")
FILLED = """
    ALTER TABLE attachments NO FORCE ROW LEVEL SECURITY;
    ALTER TABLE record_counts NO FORCE ROW LEVEL SECURITY;
    INSERT INTO record_counts (tenant_id, counted, facet, rows)
    SELECT tenant_id, 'attachment_bytes', '', sum(size) FROM attachments GROUP BY tenant_id;
    ALTER TABLE attachments FORCE ROW LEVEL SECURITY;
    ALTER TABLE record_counts FORCE ROW LEVEL SECURITY;
"""


def upgrade() -> None:
    run((SQL / "operators.sql").read_text())
    run(isolate("routines") + within_years("routines"))
    for event in ("INSERT", "DELETE"):
        run(on_each_statement("count", event, "attachments", "crm_count_bytes()"))
    run(on_each_statement("quota", "INSERT", "attachments", "crm_limit_bytes()"))
    for table in LIMITED:
        run(limited(table))
    run(FILLED)
    run(f"GRANT EXECUTE ON FUNCTION {', '.join(MEASURES)} TO crm_service")
    run("GRANT EXECUTE ON FUNCTION crm_is_record(text) TO crm_service, crm_search, crm_maintenance")
    run(owned_by("crm_maintenance", "crm_note_routine(text)", *MEASURES))
    ((owner,),) = rows("SELECT quote_ident(current_user)")
    as_role("crm_maintenance", f"GRANT EXECUTE ON FUNCTION crm_note_routine(text), crm_routines() TO {owner}")
    # Whoever backs up reads everything, and notes it.
    as_role("crm_maintenance", "GRANT EXECUTE ON FUNCTION crm_note_routine(text) TO pg_read_all_data")


def downgrade() -> None:
    run("""
        DROP FUNCTION crm_count_bytes() CASCADE;
        DROP FUNCTION crm_limit_bytes() CASCADE;
        DROP FUNCTION crm_limit_records() CASCADE;
        DROP FUNCTION crm_limit_members() CASCADE;
        DROP FUNCTION crm_refuse_more(text, bigint);
    """)
    as_role(
        "crm_maintenance",
        "".join(f"DROP FUNCTION {function};" for function in ("crm_note_routine(text)", *MEASURES)),
    )
    run("""
        DROP FUNCTION crm_is_record(text);
        ALTER TABLE record_counts NO FORCE ROW LEVEL SECURITY;
        DELETE FROM record_counts WHERE counted = 'attachment_bytes';
        ALTER TABLE record_counts FORCE ROW LEVEL SECURITY;
        DROP POLICY maintenance ON record_counts;
        REVOKE SELECT ON record_counts FROM crm_maintenance;
        DROP TABLE routines;
    """)
