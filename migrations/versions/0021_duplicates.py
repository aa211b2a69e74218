"""Records that may be the same, and merging them."""

from pathlib import Path

from migrations.rules import (
    counted,
    granted,
    isolate,
    logged_under,
    on_each_statement,
    own_only,
    owned_by,
    run,
    within_years,
)

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0021")
TABLES = ("duplicate_keys", "duplicate_pairs", "duplicate_groups", "duplicate_states")
BEHIND = "crm_duplicates_behind(bigint)"
KINDS = ("customers", "contacts")
# Whoever is limited to own records sees what is about these only.
OWN = {
    "duplicate_pairs": "(SELECT count(*) FROM {kind} WHERE id IN (record_id, other_id)) = 2",
    "duplicate_groups": "(SELECT count(*) FROM {kind} WHERE id = ANY (members)) = cardinality(members)",
}
# What these functions were before.
BEFORE = {
    "crm_audit()": Path(__file__).with_name("0002") / "operations.sql",
    "crm_cascades()": Path(__file__).with_name("0006") / "erasure.sql",
}


def upgrade() -> None:
    for part in ("merging", "duplicates"):
        run((SQL / f"{part}.sql").read_text())
    run(logged_under("merged_into"))
    for table in TABLES:
        run(isolate(table) + granted(table, "SELECT, INSERT, UPDATE, DELETE"))
    run(within_years("duplicate_pairs"))
    for table, condition in OWN.items():
        of_kinds = (f"(kind = '{kind}' AND {condition.format(kind=kind)})" for kind in KINDS)
        run(own_only(table, " OR ".join(of_kinds)))
    run(counted("duplicate_groups", "kind", "true"))
    for table in KINDS:
        run(on_each_statement("forget", "DELETE", table, "crm_forget_keys()"))
    run(f"GRANT EXECUTE ON FUNCTION {BEHIND} TO crm_service")
    run(owned_by("crm_maintenance", BEHIND))


def downgrade() -> None:
    """What was merged stays so; which records may be the same is forgotten."""
    run(f"DROP FUNCTION {BEHIND}; DROP TABLE {', '.join(TABLES)}; DROP FUNCTION crm_forget_keys() CASCADE")
    for event in ("insert", "update", "delete"):
        run(f"DROP FUNCTION crm_count_duplicate_groups_{event}()")
    for function, path in BEFORE.items():
        before = path.read_text().replace("CREATE OR REPLACE FUNCTION", "CREATE FUNCTION")
        body = before[before.index(f"CREATE FUNCTION {function}") :].replace("CREATE", "CREATE OR REPLACE", 1)
        run(body[: body.index("$$;") + 3])
    run("DROP INDEX audit_entries_merged_into_idx; DROP FUNCTION crm_has_more")
    run("ALTER TABLE deals ALTER CONSTRAINT deals_contact_fkey NOT DEFERRABLE")
    for table in KINDS:
        run(f"ALTER TABLE {table} DROP COLUMN merged_into, DROP COLUMN merged_ids")
