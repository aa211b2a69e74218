"""What reports add up is kept up to date: a report of a million records takes no longer than one of a thousand."""

from pathlib import Path

from migrations.report_sums import drop_functions, make_functions
from migrations.rules import granted, isolate, own_only, run

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0051")
ME = "current_setting('crm.user', true)"
OWN = {
    "report_changes": f"person = {ME}",
    "report_sums": f"by_person AND person = {ME}",
    "customer_values": "customer_id IN (SELECT id FROM customers)",
}


def upgrade() -> None:
    run((SQL / "report_sums.sql").read_text())
    for table, own in OWN.items():
        run(isolate(table) + own_only(table, own) + granted(table, "SELECT"))
    make_functions(visits_copy=False, customers_kept=False)


def downgrade() -> None:
    drop_functions()
    run("""
        DROP TABLE report_changes, report_sums, customer_values;
        DROP INDEX deals_live_actual_close_date_idx;
    """)
