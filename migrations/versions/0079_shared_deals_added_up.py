"""What is there already is added up for the reports, organization by organization: nobody waits for it.

Two indexes are replaced by such as have more: the newest deal of a customer is found by one, and what a person did on
each day is read off the other without the activities.
"""

from alembic import op

from migrations.rules import rows, run, tenants, transaction

revision = "0079"
down_revision = "0078"
branch_labels = None
depends_on = None


def upgrade() -> None:
    organizations = tenants()
    with op.get_context().autocommit_block():
        run("DROP INDEX IF EXISTS deals_live_customer_idx")
        run("""
            CREATE INDEX deals_live_customer_idx ON deals (tenant_id, customer_id, created_at, id)
                INCLUDE (amount, currency) WHERE deleted_at IS NULL
        """)
        run("DROP INDEX IF EXISTS deals_live_value_idx; DROP INDEX IF EXISTS activities_live_of_person_idx")
        run("""
            CREATE INDEX activities_live_of_person_idx ON activities (tenant_id, assigned_to, due_date, id)
                INCLUDE (created_at, all_day, type) WHERE deleted_at IS NULL
        """)
        run("DROP INDEX IF EXISTS activities_live_assigned_to_idx")
        for tenant in organizations:
            with transaction():
                rows("SELECT crm_add_up_reports(%s)", [tenant])
        run("""
            CREATE INDEX IF NOT EXISTS customer_values_best_of_person_idx ON customer_values
                (tenant_id, assigned_to, currency, value DESC, deals DESC, customer_id) WHERE assigned_to IS NOT NULL;
            CREATE INDEX IF NOT EXISTS customer_values_newest_idx ON customer_values
                (tenant_id, assigned_to, newest_at DESC, newest_id DESC) INCLUDE (customer_id)
                WHERE assigned_to IS NOT NULL AND currency = '';
        """)


def downgrade() -> None:
    run("""
        DROP INDEX customer_values_best_of_person_idx, customer_values_newest_idx;
        CREATE INDEX deals_live_value_idx ON deals (tenant_id, customer_id) INCLUDE (amount, currency)
            WHERE deleted_at IS NULL;
        DROP INDEX deals_live_customer_idx;
        CREATE INDEX activities_live_assigned_to_idx ON activities (tenant_id, assigned_to, due_date, id)
            WHERE deleted_at IS NULL;
        DROP INDEX activities_live_of_person_idx;
    """)
