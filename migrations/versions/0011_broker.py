"""Where readers of all organizations' events are, such as what publishes them to a message broker."""

from pathlib import Path

from migrations.rules import granted, isolate, owned_by, run, within_years

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0011")
CALLED = ("crm_lead_feed(text, uuid, double precision)", "crm_feed_news(text, bigint)")
FUNCTIONS = (*CALLED, "crm_feed_ends()")


def upgrade() -> None:
    run((SQL / "broker.sql").read_text())
    run(isolate("feed_places") + granted("feed_places", "SELECT, INSERT, UPDATE (sequence)"))
    run(isolate("feed_readers") + within_years("feed_readers"))
    run(f"GRANT EXECUTE ON FUNCTION {', '.join(CALLED)} TO crm_service")
    run(owned_by("crm_maintenance", *FUNCTIONS))


def downgrade() -> None:
    """Who upgrades again begins anew: events of between are not published."""
    for function in FUNCTIONS:
        run(f"DROP FUNCTION {function}")
    run("DROP TABLE feed_readers, feed_places")
