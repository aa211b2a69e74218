"""What an upgrade does to rows that the release before still took."""

from __future__ import annotations

from tests.db.conftest import AtRevision


def test_times_that_no_list_could_show_become_the_nearest_that_can_be_shown(at_revision: AtRevision) -> None:
    migrations, connection = at_revision("0012")
    connection.execute(
        "INSERT INTO customers (tenant_id, name, next_follow_up_at, created_at) VALUES"
        " ('acme', 'A', '0044-03-15 00:00:00+00 BC', '2026-01-01'), ('acme', 'B', '20000-01-01', '2026-01-01'),"
        " ('acme', 'C', '2026-01-01', '-infinity'), ('acme', 'D', NULL, '2026-01-01')"
    )
    told = migrations.upgrade()
    assert [line.split(" outside")[0] for line in told] == [
        "2 rows of customers of 'acme' had a next_follow_up_at",
        "1 rows of customers of 'acme' had a created_at",
    ]
    rows = connection.execute(
        "SELECT name, extract(year FROM next_follow_up_at)::int, extract(year FROM created_at)::int, version"
        " FROM customers ORDER BY name"
    ).fetchall()
    assert rows == [("A", 2, 2026, 2), ("B", 9999, 2026, 2), ("C", 2026, 2, 2), ("D", None, 2026, 1)]
    audited = connection.execute("SELECT user_name FROM audit_entries WHERE action = 'update'").fetchall()
    assert audited == [("crm db upgrade",)] * 3


def test_stages_that_shared_an_order_are_numbered_anew(at_revision: AtRevision) -> None:
    migrations, connection = at_revision("0012")
    connection.execute(
        "INSERT INTO pipeline_stages (tenant_id, name, display_name, \"order\") VALUES ('acme', 'a', 'A', 1),"
        " ('acme', 'b', 'B', 2), ('acme', 'c', 'C', 2), ('acme', 'd', 'D', 7)"
    )
    assert migrations.upgrade() == ["Pipeline stages of 'acme' shared an order: they are numbered anew."]
    stages = connection.execute('SELECT name, "order" FROM pipeline_stages ORDER BY "order"').fetchall()
    assert stages == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
