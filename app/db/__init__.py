"""PostgreSQL: the pool, sessions, compiled statements, errors, migrations."""
