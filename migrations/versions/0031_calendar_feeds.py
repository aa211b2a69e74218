"""Calendars that programs subscribe to."""

from pathlib import Path

from migrations.rules import granted, owned_by, run, within_years

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0031")


def upgrade() -> None:
    run((SQL / "feeds.sql").read_text())
    run(granted("calendar_feeds", "SELECT, INSERT, DELETE") + within_years("calendar_feeds"))
    run(owned_by("crm_maintenance", "crm_find_calendar_feed(bytea)"))


def downgrade() -> None:
    """Feeds are lost: their addresses show nothing any more."""
    run("""
        DROP FUNCTION crm_find_calendar_feed;
        DROP TABLE calendar_feeds;
        DROP INDEX customers_live_follow_up_idx, deals_live_closing_idx;
    """)
