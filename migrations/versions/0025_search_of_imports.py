"""Imports find their rows and records by one search for many, and by the right index."""

from migrations.rules import as_role, run

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

FIND = """
    CREATE OR REPLACE FUNCTION crm_find_contacts(emails text[]) RETURNS TABLE (email text, id bigint) LANGUAGE sql
    STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
    BEGIN ATOMIC {} END
"""
# The emails are folded as they are compared.
ONE_SEARCH = """
    SELECT crm_fold_email(contacts.email), contacts.id FROM contacts
    WHERE tenant_id = current_setting('crm.tenant') AND crm_fold_email(contacts.email) = ANY (emails)
        AND deleted_at IS NULL;
"""
ONE_FOR_EACH = """
    SELECT wanted.email, contacts.id FROM unnest(emails) AS wanted (email) JOIN contacts
        ON contacts.tenant_id = current_setting('crm.tenant')
        AND crm_fold_email(contacts.email) = crm_fold_email(wanted.email) AND contacts.deleted_at IS NULL;
"""


# Before there are statistics, the former index seemed as good for any rows of an import as the primary key.
OUTCOMES = "DROP INDEX import_rows_outcome_idx; CREATE INDEX import_rows_outcome_idx ON import_rows ({})"


def upgrade() -> None:
    run(OUTCOMES.format("tenant_id, outcome, import_id, number"))
    as_role("crm_search", FIND.format(ONE_SEARCH))


def downgrade() -> None:
    """Each email is searched for."""
    run(OUTCOMES.format("tenant_id, import_id, outcome, number"))
    as_role("crm_search", FIND.format(ONE_FOR_EACH))
