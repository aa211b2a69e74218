"""Alembic's entry point. `app.db.migrations` gives it the connection that holds the lock."""

from typing import Any

from alembic import context


def _include(_object: object, _name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    return kind != "index"  # the tables declare none


config: Any = context.config
context.configure(
    connection=config.attributes["connection"],
    target_metadata=config.attributes["metadata"],
    version_table=config.version_table_name,
    compare_type=True,
    compare_server_default=False,
    include_object=_include,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
