"""The rows of imports: what the check found of each, and what the run does with it."""

from pathlib import Path

from migrations.rules import amend, isolate, own_only, owned_by, run

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0022")
ERASE = "crm_erase_record(text, bigint, timestamptz, text, bigint, bigint)"
ERASED = "    IF records > 0 THEN\n"
FORGOTTEN = "    PERFORM crm_forget_imports(tenant, known);\n"


def upgrade() -> None:
    run((SQL / "import_rows.sql").read_text())
    run(isolate("import_rows") + own_only("import_rows", "EXISTS (SELECT FROM imports WHERE imports.id = import_id)"))
    run(owned_by("crm_search", "crm_find_contacts(text[])"))
    amend(ERASE, ERASED, FORGOTTEN + ERASED)


def downgrade() -> None:
    """What checks found is lost; what was imported stays."""
    amend(ERASE, FORGOTTEN, "")
    run("DROP FUNCTION crm_forget_imports")
    run("DROP TRIGGER import ON jobs; DROP FUNCTION crm_end_import")
    run("DROP TABLE import_rows; DROP FUNCTION crm_find_contacts; DROP INDEX contacts_email_idx")
