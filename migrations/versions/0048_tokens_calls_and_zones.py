"""Access tokens and calls of other services are in the audit log, a token that ended stays so, and no time zone that
the server does not know stops reminders.
"""

from pathlib import Path

from migrations.rules import amend, audited, owned_by, run, versioned, within_years

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0048")
# A secret is not for the audit log, and that a token was used is no change of it.
UNAUDITED = ("secret_hash", "last_used_at")
ACTIONS = "'create', 'update', 'delete', 'restore', 'purge', 'merge', 'erase', 'export', 'import'"
REMIND, NEXT_RUN = "crm_remind(bigint)", "crm_next_run(text, text, integer, integer, text, timestamptz)"
AFTER_QUIET, DIGESTS = "crm_after_quiet(timestamptz, text, text, text)", "crm_make_digests()"
# The function, its owner if that is not the tables', and a part of it before and after.
ZONES = (
    (
        REMIND,
        "crm_maintenance",
        "CROSS JOIN (SELECT DISTINCT timezone FROM settings) AS zones CROSS JOIN LATERAL (",
        """CROSS JOIN (
            -- Where the server does not know the zone, nobody is reminded of days.
            SELECT timezone FROM (SELECT DISTINCT timezone FROM settings) AS chosen WHERE crm_zone(timezone) = timezone
            OFFSET 0
        ) AS zones CROSS JOIN LATERAL (""",
    ),
    (
        NEXT_RUN,
        None,
        "FROM (SELECT (since AT TIME ZONE zone)::date AS today) AS now CROSS JOIN",
        # From here on `zone` is this one.
        """FROM (
            SELECT known AS zone, (since AT TIME ZONE known)::date AS today FROM crm_zone(zone) AS known
        ) AS now CROSS JOIN""",
    ),
    (AFTER_QUIET, None, "moment AT TIME ZONE zone)", "moment AT TIME ZONE crm_zone(zone))"),
    (DIGESTS, "crm_maintenance", "AT TIME ZONE zone - digest_at", "AT TIME ZONE crm_zone(zone) - digest_at"),
)


def upgrade() -> None:
    run((SQL / "access_tokens.sql").read_text())
    run(owned_by("crm_maintenance", "crm_revoke_access_tokens()"))
    run("ALTER TABLE access_tokens DROP CONSTRAINT access_tokens_years_check;" + within_years("access_tokens"))
    run(versioned("access_tokens", UNAUDITED) + audited("access_tokens", "access_token", UNAUDITED))
    _allow(f"{ACTIONS}, 'call'")
    run((SQL / "calls.sql").read_text())
    run((SQL / "timezones.sql").read_text())
    for function, role, before, after in ZONES:
        amend(function, before, after, role=role)


def downgrade() -> None:
    """Entries that speak of tokens and calls stay."""
    for function, role, before, after in reversed(ZONES):
        amend(function, after, before, role=role)
    run("""
        DROP TRIGGER known_timezone ON settings;
        DROP TRIGGER known_timezone ON notification_settings;
        DROP FUNCTION crm_require_zone, crm_zone, crm_log_call;
        DROP TRIGGER revoke ON members;
        DROP FUNCTION crm_revoke_access_tokens;
        REVOKE UPDATE (revoked_at) ON access_tokens FROM crm_maintenance;
        DROP TRIGGER version ON access_tokens;
        DROP TRIGGER audit_insert ON access_tokens;
        DROP TRIGGER audit_update ON access_tokens;
        DROP TRIGGER audit_delete ON access_tokens;
        ALTER TABLE access_tokens DROP COLUMN updated_at, DROP COLUMN version
    """)
    run(within_years("access_tokens"))
    _allow(ACTIONS)


def _allow(actions: str) -> None:
    """Not checked for the entries that are there: that would read the whole log."""
    run(f"""
        ALTER TABLE audit_entries DROP CONSTRAINT audit_entries_action_check,
            ADD CONSTRAINT audit_entries_action_check CHECK (action IN ({actions})) NOT VALID
    """)
