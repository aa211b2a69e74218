"""Sums for people who see only their own records, and for the funnel. What waits longest is added up first, and what
customers are worth is added up as other sums are. What is locked here, nobody may read, so indexes are built later.
"""

from migrations.report_sums import drop_functions, make_functions
from migrations.rules import run

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None

# A visit is looked for in the history of its deal, not among all deals that a person may see.
OWN_VISITS = "ALTER POLICY own ON stage_history USING (current_user <> 'crm_service_own' OR {0})"


def upgrade() -> None:
    run(OWN_VISITS.format("EXISTS (SELECT FROM deals WHERE deals.id = deal_id)"))
    # A database that was made earlier has these functions in an older form.
    drop_functions()
    run("""
        DROP FUNCTION IF EXISTS crm_value_customers;
        REVOKE SELECT (customer_id, currency, amount) ON deals FROM crm_maintenance;
    """)
    make_functions(visits_copy=False, customers_kept=False)


def downgrade() -> None:
    run(OWN_VISITS.format("deal_id IN (SELECT id FROM deals)"))
