"""Files that records are imported from."""

from pathlib import Path

from migrations.rules import as_role, granted, isolate, own_only, owned_by, run, within_years

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0016")
TABLE = "imports"
# Never whose it is, nor what was found in the file.
WRITABLE = "status, mapping, options, summary, job_id, operation_id, updated_at"


def upgrade() -> None:
    run((SQL / "imports.sql").read_text())
    run(isolate(TABLE) + own_only(TABLE, "user_id = current_setting('crm.user', true)") + within_years(TABLE))
    run(granted(TABLE, f"SELECT, INSERT, DELETE, UPDATE ({WRITABLE})"))
    run(owned_by("crm_maintenance", "crm_remove_import_object()", "crm_prune_imports(bigint, bigint)"))
    as_role("crm_maintenance", (SQL / "stored.sql").read_text())


def downgrade() -> None:
    """Imports are lost, what they have made stays. Their rows in the store are found by `crm attachments sweep`."""
    before = (SQL.with_name("0001") / "attachments.sql").read_text()
    begin = before.index("CREATE FUNCTION crm_list_stored_files")
    end = before.index("END $$;", begin) + len("END $$;")
    function = before[begin:end].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
    as_role("crm_maintenance", function)
    run("DROP TABLE imports; DROP FUNCTION crm_remove_import_object, crm_prune_imports")
    run("REVOKE INSERT ON removed_objects FROM crm_maintenance")
