"""PostgreSQL: one transaction per request, records, lists, migrations."""
